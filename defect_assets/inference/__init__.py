"""From an image to its defects: the code that the evaluation measures and the service runs.

It works on arrays and on a bundle's folder, and imports nothing else of this project, so that the
served image holds neither the store nor any training code.
"""
