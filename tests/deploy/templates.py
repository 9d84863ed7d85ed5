"""CloudFormation's templates as values: its tags become what their long forms are."""

import pathlib

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
DIRECTORY = ROOT / "deploy" / "cloudformation"


class Loader(yaml.SafeLoader):
    """Knows !Ref, !Sub and the like."""


def _tagged(loader, suffix, node):
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


Loader.add_multi_constructor("!", _tagged)


def names():
    return sorted(path.stem for path in DIRECTORY.glob("*.yaml"))


def load(name):
    return yaml.load((DIRECTORY / f"{name}.yaml").read_text(), Loader)


def resolved(value, known):
    """`value` with its Refs and Subs of `known` names put in."""
    if isinstance(value, dict):
        if "Ref" in value:
            return known[value["Ref"]]
        if "Fn::Sub" in value:
            text = value["Fn::Sub"]
            for name, replacement in known.items():
                text = text.replace("${" + name + "}", replacement)
            return text.replace("${!", "${")
        return {key: resolved(member, known) for key, member in value.items()}
    if isinstance(value, list):
        return [resolved(member, known) for member in value]
    return value
