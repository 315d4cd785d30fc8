"""The pictures: scenes, how they are drawn, pools of them, and those held out."""
