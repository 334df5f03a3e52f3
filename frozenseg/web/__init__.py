"""The web page: a model in the browser, on the machine that runs it."""
