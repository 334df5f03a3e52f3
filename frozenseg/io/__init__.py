"""Reading and writing files: weight files, downloads, atomic writes."""
