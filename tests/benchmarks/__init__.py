"""Of the benchmarks: that their parts measure what their pages say."""
