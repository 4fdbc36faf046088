"""kernels/scoring/score.cu without a GPU: run on the host, and compiled for each kind of device.
For tests only."""
