"""What is ours in machine code: a C file for each module here, all in one library."""
