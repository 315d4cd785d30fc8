"""What the product does, a file per verb: caption, ask, chat, choose, batch; prompt, prepare and text beside them."""
