"""The kernels of the host: headers, keys and tables of sockets, segmentation, batches."""
