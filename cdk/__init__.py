"""The infrastructure of TaskFlow on AWS: one construct per capability, one file of numbers (profiles.py).

`python -m cdk.templates` writes it to cloudformation/, from where deploy.py takes it.
"""

from cdk.node import use_packaged_node

use_packaged_node()  # before anything imports aws_cdk, which starts Node
