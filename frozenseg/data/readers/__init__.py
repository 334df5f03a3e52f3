"""One reader per annotation format, each from files as their makers distribute them."""
