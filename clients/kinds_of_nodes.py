"""
A topology in TopDL with what its nodes are made as: for nodes that say it themselves nothing changes.
"""

from __future__ import annotations

from xml.etree import ElementTree

from hostline.protocol.errors import BadTopology

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

#: The attributes of a node that say its kind; and those that say whom it is packed with.
KINDS = ("containers:node_type", "benito:node_type")
PARTITIONS = ("partition", "benito:partition", "containers:partition")


def with_kinds(text: str, kind: Callable[[bool], str]) -> str:
    """
    @param text: TopDL.
    @param kind: tells what a node is made as that does not say it, by whether it has a partition.
    @return: the same with that as an attribute of each such node.
    @raise BadTopology: if it is no XML; whether it is TopDL is for the daemon to say.
    """
    builder = ElementTree.TreeBuilder(insert_comments=True, insert_pis=True)
    try:
        tree = ElementTree.fromstring(text, ElementTree.XMLParser(target=builder))
    except (ElementTree.ParseError, ValueError) as error:
        raise BadTopology(f"the topology is no XML: {error}") from None
    for computer in tree.iter("computer"):
        said = {one.findtext("attribute", "").strip() for one in computer.findall("attribute")}
        if said.isdisjoint(KINDS):
            one = ElementTree.SubElement(computer, "attribute")
            ElementTree.SubElement(one, "attribute").text = KINDS[0]
            ElementTree.SubElement(one, "value").text = kind(not said.isdisjoint(PARTITIONS))
    found = ElementTree.tostring(tree, encoding="unicode")
    lost = text.rstrip().count("\n") - found.count("\n")  # what stood before it: lines keep their numbers
    return "\n" * lost + found
