"""What the service consists of; `service.py` hands it to BentoML.

It imports `defect_assets.inference` and libraries, and nothing else of this project.
"""
