"""Training of the matching and contrastive heads, `demo-itm`, on the finished tower of `demo`."""
