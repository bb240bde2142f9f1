"""Gates: pure functions from evidence and a policy to a verdict."""

from ci.gates.coverage import Coverage
from ci.gates.findings import Findings
from ci.gates.image import Image
from ci.gates.protocol import Acceptance, AllOf, AnyOf, Gate, worst
from ci.gates.quality import Quality, QualityPolicy
from ci.gates.security import Security, SecurityPolicy
from ci.gates.statuses import Statuses
from ci.gates.tests import Tests
from ci.gates.vulnerabilities import Vulnerabilities

__all__ = [
    "Acceptance",
    "AllOf",
    "AnyOf",
    "Coverage",
    "Findings",
    "Gate",
    "Image",
    "Quality",
    "QualityPolicy",
    "Security",
    "SecurityPolicy",
    "Statuses",
    "Tests",
    "Vulnerabilities",
    "worst",
]
