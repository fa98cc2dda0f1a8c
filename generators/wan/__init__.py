"""What the generators built on Wan2.1 share: models, weights, sampling, references, memory and GPUs.

The rules of one family stand in ``generators/refalign.py``, ``phantom.py`` and ``vace.py``; nothing here knows them.
"""
