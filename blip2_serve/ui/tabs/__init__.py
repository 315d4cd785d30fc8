"""The tabs of the page, one for each task."""
