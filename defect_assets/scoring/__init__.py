"""Looking at many images with a released model: a folder, a bucket, a snapshot.

The work is cut into *shards*, each of which is done whole or not at all, so that what was
interrupted goes on. Who works on them is another's business: threads of this process, or actors on
a Ray cluster; a shard comes out the same from both.
"""
