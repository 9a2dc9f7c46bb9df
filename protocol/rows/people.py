"""
The rows of projects, users and delegates.
"""

from __future__ import annotations

from hostline.protocol import kinds, shapes
from hostline.protocol.command import FOR_ANYONE, FOR_OPERATORS, FOR_OWNERS, FOR_USERS, Command
from hostline.protocol.kinds import several

ROWS: tuple[Command, ...] = (
    Command(
        "add_project",
        (("project", kinds.PROJECT),),
        shapes.PROJECT_BODY,
        FOR_OPERATORS,
        "Make a project; quota= bounds the sum of a resource over its running nodes.",
        options=(("quota", kinds.mapping(kinds.WORD, kinds.COUNT, "QUOTA", "resource to amount"), {}),),
        changes=True,
    ),
    Command(
        "add_member",
        (("project", kinds.PROJECT), ("user", kinds.USER)),
        shapes.PROJECT_BODY,
        FOR_OPERATORS,
        "Make a user a member of a project.",
        target="project",
        changes=True,
    ),
    Command(
        "remove_member",
        (("project", kinds.PROJECT), ("user", kinds.USER)),
        shapes.PROJECT_BODY,
        FOR_OPERATORS,
        "End a membership; what the user owns in the project stays there.",
        target="project",
        changes=True,
    ),
    Command(
        "remove_project",
        (("project", kinds.PROJECT),),
        shapes.PROJECT_BODY,
        FOR_OPERATORS,
        "Remove a project that has no experiments.",
        target="project",
        changes=True,
    ),
    Command(
        "projects",
        (),
        shapes.PROJECTS,
        FOR_ANYONE,
        "The projects that the caller is a member of; all for operators.",
        polled=True,
    ),
    Command(
        "add_user",
        (("user", kinds.USER),),
        shapes.USER_BODY,
        FOR_OPERATORS,
        "Make a user, known by the uid= it has on this host, by the names in certificates of certificate=, or both; "
        "operator=True makes it an operator.",
        options=(
            ("uid", kinds.UID, None),
            ("keys", several(kinds.KEY), []),
            ("certificate", several(kinds.CERTIFICATE_NAME), []),
            ("operator", kinds.FLAG, False),
        ),
        changes=True,
    ),
    Command(
        "set_user",
        (("user", kinds.USER),),
        shapes.USER_BODY,
        FOR_OPERATORS,
        "Change by what a user is known, its keys, or whether it is an operator; what is left out stays as it is. Who "
        "has come by what is taken away is cut.",
        options=(
            ("uid", kinds.UID, None),
            ("keys", several(kinds.KEY), None),
            ("certificate", several(kinds.CERTIFICATE_NAME), None),
            ("operator", kinds.FLAG, None),
        ),
        target="user",
        changes=True,
    ),
    Command(
        "remove_user",
        (("user", kinds.USER),),
        shapes.USER_BODY,
        FOR_OPERATORS,
        "Remove a user; its memberships end, the delegates that it made go, what it owns stays with the project.",
        target="user",
        changes=True,
    ),
    Command("users", (), shapes.USERS, FOR_OPERATORS, "All users.", polled=True),
    Command(
        "add_delegate",
        (("delegate", kinds.DELEGATE),),
        shapes.DELEGATE_BODY,
        FOR_USERS,
        "Let somebody say just these commands of these experiments and slivers: by ssh with one of keys=, as an "
        "account that is made; or as the account uid=. Users may, for what they own.",
        options=(
            ("uid", kinds.UID, None),
            ("keys", several(kinds.KEY), []),
            ("commands", several(kinds.WORD), []),
            ("slivers", several(kinds.GRANTED), []),
        ),
        changes=True,
    ),
    Command(
        "set_delegate",
        (("delegate", kinds.DELEGATE),),
        shapes.DELEGATE_BODY,
        FOR_OWNERS,
        "Grant a delegate other commands or slivers, or let it in with other keys; what is left out stays as it is. If "
        "a key is taken away, what was open by ssh is cut.",
        options=(
            ("keys", several(kinds.KEY), None),
            ("commands", several(kinds.WORD), None),
            ("slivers", several(kinds.GRANTED), None),
        ),
        target="delegate",
        changes=True,
    ),
    Command(
        "remove_delegate",
        (("delegate", kinds.DELEGATE),),
        shapes.DELEGATE_BODY,
        FOR_OWNERS,
        "End a delegate's grant; the account that was made for it is removed with all that runs in it.",
        target="delegate",
        changes=True,
    ),
    Command(
        "delegates",
        (),
        shapes.DELEGATES,
        FOR_USERS,
        "The delegates that the caller made; all for operators.",
        polled=True,
    ),
)
