"""The tests, one file or folder for each of the package's."""
