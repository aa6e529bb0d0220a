"""TaskFlow as Lambda functions: what the entry points in `lambdas/` call. See docs/lambda.md."""
