"""What operators do, one file each; the command line and any other front end share it."""
