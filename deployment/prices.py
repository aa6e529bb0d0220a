"""List prices that the estimates are made with: us-east-1, on demand, without free tier, tax or data transfer."""

from __future__ import annotations

from typing import Final

AS_OF: Final = "2026-11"
REGION: Final = "us-east-1"
HOURS: Final = 730.0  # a month

# Sources: the pricing pages of the services; in dollars.
LOAD_BALANCER_HOUR: Final = 0.0225
LOAD_BALANCER_LCU_HOUR: Final = 0.008
PUBLIC_ADDRESS_HOUR: Final = 0.005
NAT_GATEWAY_HOUR: Final = 0.045
NAT_GATEWAY_GB: Final = 0.045
INTERFACE_ENDPOINT_HOUR: Final = 0.01  # and availability zone
INTERFACE_ENDPOINT_GB: Final = 0.01
FARGATE_VCPU_HOUR: Final = 0.04048  # x86
FARGATE_GB_HOUR: Final = 0.004445
FUNCTION_GB_SECOND: Final = 0.0000166667  # x86
FUNCTION_REQUEST: Final = 0.20e-6
QUEUE_REQUEST: Final = 0.40e-6
FAIR_QUEUE_MESSAGE: Final = 0.10e-6  # of messages with a group
DATABASE_GB_MONTH: Final = 0.115  # gp3
DATABASE_PROXY_VCPU_HOUR: Final = 0.015
LOGS_GB: Final = 0.50
LOGS_GB_MONTH: Final = 0.03
SECRET_MONTH: Final = 0.40
ALARM_MONTH: Final = 0.10  # and metric that it watches
METRIC_MONTH: Final = 0.30  # of the program's own
DASHBOARD_MONTH: Final = 3.00

# PostgreSQL, one zone, an hour; and the processors of the class, which RDS Proxy is billed by.
DATABASE_CLASS_HOUR: Final = {
    "db.t4g.micro": (0.016, 2),
    "db.t4g.small": (0.032, 2),
    "db.t4g.medium": (0.065, 2),
    "db.t4g.large": (0.129, 2),
    "db.m7g.large": (0.168, 2),
    "db.m7g.xlarge": (0.337, 4),
    "db.m7g.2xlarge": (0.674, 8),
}
