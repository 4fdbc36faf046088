"""What a figure means: values in, a Verdict out. No file here does I/O, so every threshold can be
tested with values."""
