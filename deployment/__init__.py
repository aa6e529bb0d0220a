"""TaskFlow on AWS: what `deploy.py` does. One stack per stage, driven by change sets.

docs/deploy-reference.md lists the commands.
"""
