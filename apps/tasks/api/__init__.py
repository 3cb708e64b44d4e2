"""Tasks over HTTP: a module for each group of paths (`urls.py` is the table), beside it what /api/docs says of them."""
