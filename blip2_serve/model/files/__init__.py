"""The files of a checkpoint's folder: read and checked, no weight of them loaded."""
