"""Reading weight files of every format without ever running code from them."""
