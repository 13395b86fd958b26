"""What keeps a workload apart from the rest of the host, and how it is carried out. Pure: asks no host."""
