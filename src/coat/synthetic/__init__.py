"""The small world: a synthesised corpus, stand-in experts, the miniature that ships, and the demo.

Everything here runs offline on two CPU cores. It is public: test your own backbone, expert or
recipe on it before you spend a GPU.
"""
