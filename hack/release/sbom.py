"""Write a release's bill of materials: CycloneDX 1.6, as JSON, reproducible for a release.

    sbom.py VERSION EPOCH COMPONENTS ARTEFACT >FILE

COMPONENTS has a line for each component: name, version, licence (SPDX; may have several words) and package URL.
ARTEFACT is the file that the bill describes, with its SHA-256. EPOCH is the time of the release, in seconds. Needs
cyclonedx-python-lib.
"""

import hashlib
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

NAME = "pouchrich"


def main(version: str, epoch: str, components: str, artefact: str) -> None:
    licences = LicenseFactory()
    digest = hashlib.sha256(Path(artefact).read_bytes()).hexdigest()
    bom = Bom(serial_number=uuid.uuid5(uuid.NAMESPACE_OID, digest))
    bom.metadata.timestamp = datetime.fromtimestamp(int(epoch), UTC)
    bom.metadata.component = Component(
        name=NAME,
        version=version,
        type=ComponentType.APPLICATION,
        bom_ref=NAME,
        licenses=[licences.make_from_string("Apache-2.0")],
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest)],
    )
    for line in sorted(Path(components).read_text().splitlines()):
        name, found, *licence, purl = line.split(" ")
        component = Component(
            name=name,
            version=found,
            type=ComponentType.LIBRARY,
            bom_ref=purl,
            licenses=[licences.make_from_string(" ".join(licence))],
            purl=PackageURL.from_string(purl),
        )
        bom.components.add(component)
        bom.register_dependency(bom.metadata.component, [component])
    sys.stdout.write(JsonV1Dot6(bom).output_as_string(indent=2) + "\n")


main(*sys.argv[1:])
