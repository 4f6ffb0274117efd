"""Croissant metadata of a dataset (MLCommons, 1.0), with its responsible-AI fields, made from the manifest.

Files have their address on the Hub and their digest, columns the types of their schemas. Columns that are lists of
objects are named in a description only, since readers of Croissant take no such lists.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cfbuild.publish import responsible
from cfbuild.publish.card import PAPER, CardInput
from cfbuild.publish.columns import columns, type_of
from cfbuild.publish.stage import StagedFile, Table
from cfbuild.publish.tags import iso_codes

NAME = "croissant.json"
HUB = "https://huggingface.co"
"""The Hub's public address, where metadata says that the files are, whatever hub they are sent to."""
CONFORMS_TO = ("http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0")
LICENCE = "https://creativecommons.org/publicdomain/zero/1.0/"
PARQUET = "application/x-parquet"
REPOSITORY = "repo"
NO_DIGEST = "https://github.com/mlcommons/croissant/issues/80"
"""The text in place of a repository's digest, which does not exist; the Hub's own metadata has the same."""
TYPES: Mapping[str, str] = {
    "string": "sc:Text",
    "integer": "sc:Integer",
    "number": "sc:Float",
    "boolean": "sc:Boolean",
    "object": "sc:Text",
}
"""Croissant's types by those of the schemas; an object whose keys are data is a column of JSON text."""
TERMS = (
    "@language @vocab citeAs column conformsTo cr rai data dataType dct equivalentProperty examples extract field "
    "fileObject fileProperty fileSet format includes isLiveDataset jsonPath key md5 parentField path recordSet "
    "references regex repeated replace samplingRate sc separator source subField transform"
)
NOT_CROISSANTS: Mapping[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "sc": "https://schema.org/",
}
"""The meaning of terms that is not just Croissant's term of that name."""
CONTEXT = {term: NOT_CROISSANTS.get(term, f"cr:{term}") for term in TERMS.split()}
"""The JSON-LD context that the specification of Croissant 1.0 gives, appendix 1."""


def make_croissant(given: CardInput, files: Sequence[StagedFile], hub: str = HUB) -> dict[str, Any]:
    """Return the metadata of a dataset as JSON-LD. hub: the address of the hub that has the files."""
    address = f"{hub}/datasets/{given.repository}"
    owner, name = given.repository.split("/")
    about = responsible.statement(given.manifest, given.composition)
    day = given.manifest.today
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": list(CONFORMS_TO),
        "name": name,
        "description": "Counterfactual records for knowledge editing in the format of CounterFact (Meng et al. 2022): "
        "each asks a language model to believe a false fact, and has prompts that test whether it does, and whether it "
        "still knows everything else.",
        "url": address,
        "license": LICENCE,
        "creator": {"@type": "sc:Organization", "name": owner},
        **({"datePublished": day} if day else {}),
        "version": "1.0.0",
        "inLanguage": iso_codes(given.languages),
        "keywords": ["knowledge editing", "model editing", "counterfact", "wikidata"],
        "citeAs": PAPER,
        "rai:dataCollection": about.collection,
        "rai:dataCollectionType": list(about.kinds_of_collection),
        **({"rai:dataCollectionTimeFrame": list(about.days)} if about.days else {}),
        "rai:dataPreprocessingProtocol": list(about.processing),
        "rai:dataAnnotationProtocol": [responsible.NEVER_ANNOTATED],
        "rai:machineAnnotationTools": list(about.tools),
        "rai:dataUseCases": [*responsible.USES, *(f"Not: {text}" for text in responsible.MISUSES)],
        "rai:dataBiases": list(about.biases),
        "rai:dataLimitations": list(responsible.LIMITATIONS),
        "rai:dataSocialImpact": responsible.IMPACT,
        "rai:personalSensitiveInformation": list(about.personal),
        "rai:dataReleaseMaintenancePlan": responsible.PLAN,
        "distribution": list(_distribution(given, files, address)),
        "recordSet": [_record_set(table, split) for table in given.tables for split in table.splits],
    }


def _distribution(given: CardInput, files: Sequence[StagedFile], address: str) -> Iterator[dict[str, Any]]:
    """Yield the repository, each of its parquet files, and the set of files of each table and split."""
    yield {
        "@type": "cr:FileObject",
        "@id": REPOSITORY,
        "name": REPOSITORY,
        "description": "The repository on the Hub.",
        "contentUrl": address,
        "encodingFormat": "git+https",
        "sha256": NO_DIGEST,
    }
    for file in files:
        if file.path.endswith(".parquet"):
            yield {
                "@type": "cr:FileObject",
                "@id": file.path,
                "name": file.path.rsplit("/", 1)[1],
                "contentUrl": f"{address}/resolve/main/{file.path}",
                "contentSize": f"{file.size} B",
                "encodingFormat": PARQUET,
                "sha256": file.sha256,
            }
    for table in given.tables:
        for split in table.splits:
            yield {
                "@type": "cr:FileSet",
                "@id": _files_of(table.name, split),
                "containedIn": {"@id": REPOSITORY},
                "encodingFormat": PARQUET,
                "includes": f"data/{table.name}/{split}-*.parquet",
            }


def _files_of(table: str, split: str) -> str:
    return f"{table}-{split}-files"


def _record_set(table: Table, split: str) -> dict[str, Any]:
    name = f"{table.name}-{split}"
    files = {"fileSet": {"@id": _files_of(table.name, split)}}
    found = columns(table.name).properties
    fields = [_field(name, key, part, {**files, "extract": {"column": key}}) for key, part in found.items()]
    left_out = ", ".join(key for key, field in zip(found, fields, strict=True) if field is None)
    about = {"description": f"Beside these columns it has lists of objects: {left_out}."} if left_out else {}
    return {"@type": "cr:RecordSet", "@id": name, "name": name, **about, "field": [field for field in fields if field]}


def _field(
    parent: str, name: str, schema: Mapping[str, Any], column: Mapping[str, Any], keys: tuple[str, ...] = ()
) -> dict[str, Any] | None:
    """Return the field of a column, or of the value at `keys` inside a column; None for a list of objects."""
    inner = schema
    while type_of(inner) == "array":
        inner = inner["items"]
    repeats = inner is not schema
    field: dict[str, Any] = {"@type": "cr:Field", "@id": f"{parent}/{name}", "name": name}
    if about := schema.get("description"):
        field["description"] = about
    if repeats:
        field["repeated"] = True
    if "properties" not in inner:
        inside = {"transform": {"jsonPath": ".".join(keys)}} if keys else {}
        return {**field, "dataType": TYPES[type_of(inner)], "source": {**column, **inside}}
    if repeats:
        return None
    properties = inner["properties"].items()
    parts = [part for key, of in properties if (part := _field(field["@id"], key, of, column, (*keys, key)))]
    return {**field, "subField": parts} if parts else None
