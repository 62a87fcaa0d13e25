"""The page: a form, a queue and the songs of a folder, on the same engine as the command line."""
