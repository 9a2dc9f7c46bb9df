"""
What the project itself runs: the demo, and the generator of the pages that follow from the code.
"""
