"""What a figure means: values in, a Verdict out. No file here looks at anything, so that every
threshold is tested by values."""
