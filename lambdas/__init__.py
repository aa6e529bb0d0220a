"""Entry points of the Lambda functions; what they do is in `taskflow.serverless`. See docs/lambda.md."""
