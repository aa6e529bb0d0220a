"""Who may do what: one role per process kind, with the exact actions on the exact resources.

`tests/infra/cdk/statements.txt` lists every statement of the templates; the behaviour suite runs with clients that
refuse what the role here would not allow.
"""

from __future__ import annotations

from collections.abc import Sequence

import aws_cdk as aws
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from cdk.queues import PriorityQueue

# How cdk-nag spells the two resources that have to end with a wildcard (acknowledged.py).
IMAGE_REPOSITORY = (
    "arn:<AWS::Partition>:ecr:<AWS::Region>:<AWS::AccountId>:repository/"
    '{"Fn::Select":[0,{"Fn::Split":[":",{"Fn::Select":[0,{"Fn::Split":["@",{"Fn::Select":[1,{"Fn::Split":["/",'
    '{"Fn::Join":["",[{"Ref":"ImageUri"},"/none"]]}]}]}]}]}]}]}*'
)
TASKS_OF_CLUSTER = "arn:<AWS::Partition>:ecs:<AWS::Region>:<AWS::AccountId>:task/<Cluster>/*"
# Services that say in whose name they take on a role: nobody else can make them use ours.
_SAYS_WHOSE = ("ecs-tasks.amazonaws.com", "scheduler.amazonaws.com", "vpc-flow-logs.amazonaws.com")
_IN_THIS_ACCOUNT = {"StringEquals": {"aws:SourceAccount": aws.Aws.ACCOUNT_ID}}


class Role(Construct):
    """One service of AWS may take it on; it may do what ``statements`` say, and nothing else."""

    def __init__(
        self, scope: Construct, id_: str, service: str, statements: Sequence[iam.PolicyStatement]
    ) -> None:
        super().__init__(scope, id_)
        trust = iam.PolicyStatement(
            actions=["sts:AssumeRole"],
            principals=[iam.ServicePrincipal(service)],
            conditions=_IN_THIS_ACCOUNT if service in _SAYS_WHOSE else None,
        )
        self.role = iam.CfnRole(
            self,
            "Resource",
            assume_role_policy_document=document(trust),
            policies=[
                iam.CfnRole.PolicyProperty(
                    policy_name=id_.removesuffix("Role"), policy_document=document(*statements)
                )
            ],
        )
        self.arn = self.role.attr_arn


def document(*statements: iam.PolicyStatement) -> iam.PolicyDocument:
    return iam.PolicyDocument(statements=list(statements))


class Permissions:
    """The statements of each process kind. They name queues, bucket and secret, so these must be there first."""

    def __init__(
        self,
        *,
        ordinary: Sequence[PriorityQueue],
        long: Sequence[PriorityQueue],
        bucket: s3.Bucket,
        secret_arn: str,
    ) -> None:
        self._ordinary = [queue.queue for queue in ordinary]
        self._long = [queue.queue for queue in long]
        self._dead = [queue.dead_letters for queue in (*ordinary, *long)]
        self._long_dead = [queue.dead_letters for queue in long]
        self._bucket = bucket
        self._secret = read_secret(secret_arn)

    def api(self) -> list[iam.PolicyStatement]:
        """Accepts tasks: payload first, then the row, then the message."""
        return [self._send(), self._payloads(), self._find_payloads(), self._secret]

    def worker(self) -> list[iam.PolicyStatement]:
        """A function. Receiving and deleting is what Lambda does in its name."""
        ordinary_dead = self._dead[: len(self._ordinary)]
        return [
            self._send(),
            _receive("ReceiveTasks", self._ordinary),
            _put_away(ordinary_dead),
            self._payloads(),
            self._find_payloads(),
            self._secret,
        ]

    def long_worker(self, tasks_arn: str) -> list[iam.PolicyStatement]:
        """A container, which also runs what the maintenance function runs."""
        protect = iam.PolicyStatement(
            sid="ProtectItselfWhileTasksRun",
            actions=["ecs:GetTaskProtection", "ecs:UpdateTaskProtection"],
            resources=[tasks_arn],
        )
        return [
            self._send(),
            _receive("ReceiveTasks", self._long),
            _put_away(self._long_dead),
            self._payloads(),
            self._find_payloads(),
            self._secret,
            protect,
        ]

    def maintenance(self) -> list[iam.PolicyStatement]:
        """Sends what waits in the outbox; deletes payloads of tasks that are no longer kept."""
        forget = iam.PolicyStatement(
            sid="DeletePayloads",
            actions=["s3:DeleteObject"],
            resources=[self._bucket.arn_for_objects("*")],
        )
        return [self._send(), forget, self._secret]

    def dead_letters(self) -> list[iam.PolicyStatement]:
        """Takes up what SQS has given up: new messages, or the end of the task."""
        return [self._send(), _receive("ReceiveDeadLetters", self._dead), self._secret]

    def migrate(self) -> list[iam.PolicyStatement]:
        return [self._secret]

    def _send(self) -> iam.PolicyStatement:
        return iam.PolicyStatement(
            sid="SendTasks",
            actions=["sqs:SendMessage", "sqs:GetQueueUrl", "sqs:GetQueueAttributes"],
            resources=_arns([*self._ordinary, *self._long]),
        )

    def _payloads(self) -> iam.PolicyStatement:
        return iam.PolicyStatement(
            sid="Payloads",
            actions=["s3:GetObject", "s3:PutObject", "s3:DeleteObject"],
            resources=[self._bucket.arn_for_objects("*")],
        )

    def _find_payloads(self) -> iam.PolicyStatement:
        """Without it S3 says "denied" of an object that is missing."""
        return iam.PolicyStatement(
            sid="TellMissingPayloads",
            actions=["s3:ListBucket"],
            resources=[self._bucket.bucket_arn],
        )


def read_secret(secret_arn: str) -> iam.PolicyStatement:
    return iam.PolicyStatement(
        sid="ReadDatabaseLogin",
        actions=["secretsmanager:GetSecretValue"],
        resources=[secret_arn],
    )


def write_logs(log_group_arn: str) -> iam.PolicyStatement:
    """``log_group_arn`` ends with `:*`, as CloudFormation gives it: its streams."""
    return iam.PolicyStatement(
        sid="WriteLogs",
        actions=["logs:CreateLogStream", "logs:PutLogEvents"],
        resources=[log_group_arn],
    )


def run_in_vpc() -> list[iam.PolicyStatement]:
    """What Lambda does in the name of a function to put it into the VPC; the function's own code may not.

    The key `lambda:SourceFunctionArn` is there only when the code of a function calls.
    """
    actions = [
        "ec2:CreateNetworkInterface",
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeSubnets",
        "ec2:DeleteNetworkInterface",
        "ec2:AssignPrivateIpAddresses",
        "ec2:UnassignPrivateIpAddresses",
    ]
    return [
        iam.PolicyStatement(sid="LambdaAttachesToVpc", actions=actions, resources=["*"]),
        iam.PolicyStatement(
            sid="FunctionCodeDoesNot",
            effect=iam.Effect.DENY,
            actions=actions,
            resources=["*"],
            conditions={"Null": {"lambda:SourceFunctionArn": "false"}},
        ),
    ]


def pull_image(image_uri: str) -> list[iam.PolicyStatement]:
    """The image's own repository. ECR's login is for the whole registry: AWS knows no narrower resource."""
    # 1.dkr.ecr.eu-west-1.amazonaws.com/team/taskflow:1.0 -> team; of a public image without a slash: none.
    path = aws.Fn.select(1, aws.Fn.split("/", f"{image_uri}/none"))
    name = aws.Fn.select(0, aws.Fn.split(":", aws.Fn.select(0, aws.Fn.split("@", path))))
    return [
        iam.PolicyStatement(
            sid="LogInToRegistry", actions=["ecr:GetAuthorizationToken"], resources=["*"]
        ),
        iam.PolicyStatement(
            sid="PullImage",
            actions=[
                "ecr:BatchCheckLayerAvailability",
                "ecr:GetDownloadUrlForLayer",
                "ecr:BatchGetImage",
            ],
            resources=[_arn("ecr", f"repository/{name}*")],
        ),
    ]


def tasks_of(cluster: str) -> str:
    """The ARNs of a cluster's containers."""
    return _arn("ecs", f"task/{cluster}/*")


def _arn(service: str, resource: str) -> str:
    here = f"{aws.Aws.REGION}:{aws.Aws.ACCOUNT_ID}"
    return f"arn:{aws.Aws.PARTITION}:{service}:{here}:{resource}"


def _receive(sid: str, queues: Sequence[sqs.Queue]) -> iam.PolicyStatement:
    return iam.PolicyStatement(
        sid=sid,
        actions=[
            "sqs:ReceiveMessage",
            "sqs:DeleteMessage",
            "sqs:ChangeMessageVisibility",
            "sqs:GetQueueUrl",
            "sqs:GetQueueAttributes",
        ],
        resources=_arns(queues),
    )


def _put_away(queues: Sequence[sqs.Queue]) -> iam.PolicyStatement:
    """Messages that are not TaskFlow's."""
    return iam.PolicyStatement(
        sid="PutAwayForeignMessages",
        actions=["sqs:SendMessage", "sqs:GetQueueUrl"],
        resources=_arns(queues),
    )


def _arns(queues: Sequence[sqs.Queue]) -> list[str]:
    return [queue.queue_arn for queue in queues]
