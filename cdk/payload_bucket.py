"""Payloads, results and artifacts: encrypted, never public, archived when old, gone after retention."""

from __future__ import annotations

import aws_cdk as aws
from aws_cdk import aws_s3 as s3
from constructs import Construct

from cdk.parameters import Parameters, reference
from cdk.profiles import (
    ARCHIVE_CLASS,
    ARCHIVE_DAYS,
    LONGEST_DELAY_DAYS,
    RETENTION_DAYS,
    Profile,
)

_UNFINISHED_DAYS = 1


class PayloadBucket(Construct):
    """The program deletes a payload together with its task, RetentionDays after that is final. What S3's own expiry
    finds are objects that lost their task; it must not find the payload of one that waits."""

    def __init__(
        self, scope: Construct, id_: str, profile: Profile, parameters: Parameters
    ) -> None:
        super().__init__(scope, id_)
        self.bucket = s3.Bucket(
            self,
            "PayloadBucket",
            encryption=s3.BucketEncryption.S3_MANAGED,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            enforce_ssl=True,
            removal_policy=(
                aws.RemovalPolicy.RETAIN if profile.keeps_data else aws.RemovalPolicy.DESTROY
            ),
        )
        expiry_days = aws.CfnMapping(
            self,
            "PayloadExpiryDays",
            mapping={
                str(kept): {str(delay): str(kept + delay) for delay in LONGEST_DELAY_DAYS}
                for kept in RETENTION_DAYS
            },
        )
        resource = self.bucket.node.default_child
        assert isinstance(resource, s3.CfnBucket)
        resource.lifecycle_configuration = s3.CfnBucket.LifecycleConfigurationProperty(
            rules=[
                s3.CfnBucket.RuleProperty(
                    id="archive-and-expire",
                    status="Enabled",
                    transitions=[
                        s3.CfnBucket.TransitionProperty(
                            storage_class=ARCHIVE_CLASS, transition_in_days=ARCHIVE_DAYS
                        )
                    ],
                    expiration_in_days=aws.Token.as_number(
                        aws.Fn.find_in_map(
                            expiry_days.logical_id,
                            reference(parameters.retention_days),
                            reference(parameters.longest_delay_days),
                        )
                    ),
                    abort_incomplete_multipart_upload=(
                        s3.CfnBucket.AbortIncompleteMultipartUploadProperty(
                            days_after_initiation=_UNFINISHED_DAYS
                        )
                    ),
                )
            ]
        )
