"""What is deployed: reproducible zips for functions, an image for containers. See docs/lambda.md."""

from deployment.packaging.errors import PackagingError
from deployment.packaging.own_code import Kind
from deployment.packaging.package import DATABASE_CA_PATH, Package, build
from deployment.packaging.runtimes import Architecture, runtime_of

__all__ = [
    "DATABASE_CA_PATH",
    "Architecture",
    "Kind",
    "Package",
    "PackagingError",
    "build",
    "runtime_of",
]
