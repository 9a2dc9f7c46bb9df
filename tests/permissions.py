"""
The permission matrix: who gets what answer to which command. Checked in, so that a change of it is seen.

Each row is a command with its target; each column a caller:

operator; owner (a member, who made lab/exp1); member (another one of lab); other (a member of another project);
granted (a delegate of lab/exp1 and lab_web with all its commands); bare (a delegate of the first whose one command is
C{logs}); unknown (a uid that nobody has); lent (a delegate that the owner made, of both, with all commands that an
owner may hand on); spy (a delegate for every sliver, with C{get_rspec}, C{get_effective_rspec} and C{status_request});
cert (a member who is known by a name in a certificate only); certop (an operator by record, likewise); certno (a good
certificate of which no user is known); sliver (lab_web itself, through its own socket).

C{ok}: it is done; C{no}: DENIED; C{-}: what does not exist is answered just so (C{NO_SUCH_..}).
"""

from __future__ import annotations

from hostline.protocol.commands import TABLE
from hostline.server.rights import grantable

CALLERS = (
    *("operator", "owner", "member", "other", "granted", "bare", "unknown"),
    *("lent", "spy", "cert", "certop", "certno", "sliver"),
)

#: All that a delegate can be granted.
GRANTABLE = sorted(one for one, row in TABLE.items() if grantable(row))

#: What is said, and what comes of it for each of L{CALLERS}.
MATRIX = """
hello                                   ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok
help                                    ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok
ping                                    ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok
whoami                                  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok
host_status                             ok  ok  ok  ok  ok  no  ok  ok  no  ok  ok  ok  no
doctor                                  ok  no  no  no  no  no  no  no  no  no  ok  no  no
watch all                               ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok
watch host                              ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  -
watch audit                             ok  -   -   -   -   -   -   -   -   -   ok  -   -
watch experiment/lab/exp1               ok  ok  ok  -   ok  -   -   ok  -   ok  ok  -   -
watch sliver/web.exp1.lab               ok  ok  ok  -   ok  -   -   ok  -   ok  ok  -   -
watch operation/{operation}             ok  ok  ok  -   ok  -   -   ok  -   ok  ok  -   -
unwatch                                 ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok
events                                  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok
events topic=audit                      ok  -   -   -   -   -   -   -   -   -   ok  -   -
audit                                   ok  no  no  no  no  no  no  no  no  no  ok  no  no
events topic=experiment/lab/exp1        ok  ok  ok  -   ok  -   -   ok  -   ok  ok  -   -
operations                              ok  ok  ok  ok  ok  no  ok  ok  no  ok  ok  ok  no
operation {operation}                   ok  ok  -   -   -   -   -   -   -   -   ok  -   -
wait {operation}                        ok  ok  -   -   -   -   -   -   -   -   ok  -   -
cancel {operation}                      ok  ok  -   -   -   -   -   -   -   -   ok  -   -
add_project new                         ok  no  no  no  no  no  no  no  no  no  ok  no  no
add_member lab cy                       ok  no  no  -   -   -   -   -   -   no  ok  -   -
remove_member lab bob                   ok  no  no  -   -   -   -   -   -   no  ok  -   -
remove_project empty                    ok  -   -   -   -   -   -   -   -   -   ok  -   -
projects                                ok  ok  ok  ok  ok  no  ok  ok  no  ok  ok  ok  no
add_user new                            ok  no  no  no  no  no  no  no  no  no  ok  no  no
set_user cy keys=[]                     ok  -   -   -   -   -   -   -   -   -   ok  -   -
remove_user cy                          ok  -   -   -   -   -   -   -   -   -   ok  -   -
users                                   ok  no  no  no  no  no  no  no  no  no  ok  no  no
add_delegate new uid=5099               ok  no  no  no  no  no  no  no  no  no  ok  no  no
set_delegate bare commands=ping         ok  -   -   -   -   -   -   -   -   -   ok  -   -
remove_delegate bare                    ok  -   -   -   -   -   -   -   -   -   ok  -   -
add_delegate del_new slivers=lab/exp1   BAD_VALUE  BAD_VALUE  no  -  no  no  no  no  no  no  BAD_VALUE  no  no
add_delegate del_new slivers=*          BAD_VALUE  no  no  no  no  no  no  no  no  no  BAD_VALUE  no  no
add_delegate mine slivers=lab/exp1      BAD_VALUE  BAD_VALUE  BAD_VALUE  BAD_VALUE  no  no  no  no  no  BAD_VALUE  BAD_VALUE  no  no
set_delegate del_lent commands=ping     ok  ok  -   -   -   -   -   -   -   -   ok  -   -
remove_delegate del_lent                ok  ok  -   -   -   -   -   -   -   -   ok  -   -
delegates                               ok  ok  ok  ok  no  no  no  no  no  ok  ok  no  no
blob {sha256} 3 0 'YWJj'                ok  ok  ok  ok  no  no  no  no  no  ok  ok  no  no
status_request lab/exp1                 ok  ok  ok  -   ok  -   -   ok  ok  ok  ok  -   -
node_list                               ok  ok  ok  ok  ok  no  ok  ok  no  ok  ok  ok  no
node_list lab/exp1                      ok  ok  ok  -   ok  -   -   ok  -   ok  ok  -   -
extra_nodes lab exp1                    ok  ok  ok  -   ok  -   -   ok  -   ok  ok  -   -
check_topology {text}                   ok  ok  ok  ok  no  no  no  no  no  ok  ok  no  no
plan_experiment lab/new {text}          ok  ok  ok  -   -   -   -   -   -   ok  ok  -   -
create_experiment lab/new {text}        ok  ok  ok  -   -   -   -   -   -   ok  ok  -   -
swap_in lab/exp1                        ok  ok  ok  -   ok  -   -   ok  -   ok  ok  -   -
swap_out lab/exp1                       ok  ok  ok  -   ok  -   -   ok  -   ok  ok  -   -
terminate lab/exp1                      ok  ok  ok  -   ok  -   -   ok  -   ok  ok  -   -
modify_experiment lab/exp1 {text}       ok  ok  ok  -   ok  -   -   ok  -   ok  ok  -   -
experiments                             ok  ok  ok  ok  ok  no  ok  ok  no  ok  ok  ok  no
experiment lab/exp1                     ok  ok  ok  -   ok  -   -   ok  -   ok  ok  -   -
topology lab/exp1                       ok  ok  ok  -   ok  -   -   ok  -   ok  ok  -   -
wait_for lab/exp1 active                ok  ok  ok  -   ok  -   -   ok  -   ok  ok  -   -
node_reboot lab/exp1 web                ok  ok  ok  -   ok  -   -   ok  -   ok  ok  -   -
start_node lab/exp1 web                 ok  ok  ok  -   ok  -   -   ok  -   ok  ok  -   -
stop_node lab/exp1 web                  ok  ok  ok  -   ok  -   -   ok  -   ok  ok  -   -
run lab/exp1 true                       ok  ok  ok  -   ok  -   -   ok  -   ok  ok  -   -
snapshot_node lab/exp1 web new          WRONG_STATE  no  no  -   -  -  -   -  -  no  WRONG_STATE  -  -
delay_config lab/exp1 nosuch loss=0     BAD_VALUE  BAD_VALUE  BAD_VALUE  -  BAD_VALUE  -  -  BAD_VALUE  -  BAD_VALUE  BAD_VALUE  -  -
node_logs lab/exp1                      ok  ok  ok  -   ok  -   -   ok  -   ok  ok  -   -
logs web.exp1.lab                       ok  ok  ok  -   ok  ok  -   ok  -   ok  ok  -   -
create lab_new kind=process             ok  no  no  no  no  no  no  no  no  no  ok  no  no
create lab_web kind=process             EXISTS  no  no  no  no  no  no  no  no  no  EXISTS  no  no
set_sliver lab_web keys=[]              ok  ok  no  -   -   -   -   -   -   no  ok  -   no
start lab_web                           ok  ok  no  -   ok  -   -   ok  -   no  ok  -   no
stop lab_web                            ok  ok  no  -   ok  -   -   ok  -   no  ok  -   no
recreate lab_web                        ok  ok  no  -   ok  -   -   ok  -   no  ok  -   no
destroy lab_web                         ok  ok  no  -   ok  -   -   ok  -   no  ok  -   no
sync                                    WRONG_STATE  no  no  no  no  no  no  no  no  no  WRONG_STATE  no  no
undo lab_web                            WRONG_STATE  WRONG_STATE  no  -  -   -  -  -  -  no  WRONG_STATE  -  no
accept_clock                            ok  no  no  no  no  no  no  no  no  no  ok  no  no
slivers                                 ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok
sliver lab_web                          ok  ok  ok  -   ok  -   -   ok  -   ok  ok  -   ok
sliver web.exp1.lab                     ok  ok  ok  -   ok  -   -   ok  -   ok  ok  -   -
get_ssh_keys                            ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok
get_ssh_keys lab_web                    ok  ok  ok  -   ok  -   -   ok  -   ok  ok  -   ok
get_xids                                ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok
watch sliver/lab_web                    ok  ok  ok  -   ok  -   -   ok  -   ok  ok  -   ok
get_rspec lab_web                       ok  ok  ok  -   ok  -   -   ok  ok  ok  ok  -   ok
get_rspec web.exp1.lab                  ok  ok  ok  -   ok  -   -   ok  ok  ok  ok  -   -
get_effective_rspec lab_web             ok  ok  ok  -   ok  -   -   ok  ok  ok  ok  -   ok
get_loans lab_web                       ok  ok  ok  -   ok  -   -   ok  -   ok  ok  -   ok
set_loans lab_web []                    ok  ok  no  -   ok  -   -   ok  -   no  ok  -   ok
loan lab_db cpu_share 1 lender=lab_web  ok  ok  no  -   ok  -   -   ok  -   no  ok  -   ok
images                                  ok  ok  ok  ok  no  no  no  no  no  ok  ok  no  no
image_build new base=busybox            WRONG_STATE  no  no  no  no  no  no  no  no  no  WRONG_STATE  no  no
image_import new blob:{sha256}          WRONG_STATE  no  no  no  no  no  no  no  no  no  WRONG_STATE  no  no
ticket {text}                           BAD_TICKET  BAD_TICKET  BAD_TICKET  BAD_TICKET  BAD_TICKET  no  BAD_TICKET  BAD_TICKET  no  BAD_TICKET  BAD_TICKET  BAD_TICKET  no
image_remove nosuch                     -   no  no  no  no  no  no  no  no  no  -   no  no
exec web.exp1.lab true                  ok  ok  ok  -   ok  -   -   ok  -   ok  ok  -   -
exec lab_web true                       ok  ok  ok  -   ok  -   -   ok  -   ok  ok  -   no
attach web.exp1.lab                     BAD_ARGUMENTS  BAD_ARGUMENTS  BAD_ARGUMENTS  -  BAD_ARGUMENTS  -  -  BAD_ARGUMENTS  -  BAD_ARGUMENTS  BAD_ARGUMENTS  -  -
logs lab_web                            ok  ok  ok  -   ok  -   -   ok  -   ok  ok  -   no
push web.exp1.lab f x                   FAILED  FAILED  FAILED  -  FAILED  -  -  FAILED  -  FAILED  FAILED  -  -
pull web.exp1.lab f                     FAILED  FAILED  FAILED  -  FAILED  -  -  FAILED  -  FAILED  FAILED  -  -
ca_init                                 ok  no  no  no  no  no  no  no  no  no  EXISTS  no  no
ca_token host.example.org               ok  no  no  no  no  no  no  no  no  no  ok  no  no
ca_certificate                          ok  ok  ok  ok  ok  no  ok  ok  no  ok  ok  ok  no
ca_enrol wrong x                        no  no  no  no  no  no  no  no  no  no  no  no  no
ca_renew x                              no  no  no  no  no  no  no  no  no  no  no  no  no
ca_revoke nosuch.example.org            -  no  no  no  no  no  no  no  no  no  -  no  no
ca_revoked                              ok  ok  ok  ok  ok  no  ok  ok  no  ok  ok  ok  no
certificates                            ok  no  no  no  no  no  no  no  no  no  ok  no  no
set_swap lab/exp1 idle=1h               ok  ok  ok  -   ok  -   -   ok  -   ok  ok  -   -
activity lab/exp1                       ok  ok  ok  -   ok  -   -   ok  -   ok  ok  -   -
history lab/exp1                        ok  ok  ok  -   ok  -   -   ok  -   ok  ok  -   -
why lab/exp1 web                        ok  ok  ok  -   ok  -   -   ok  -   ok  ok  -   -
data {{}}                               BAD_VALUE  BAD_VALUE  BAD_VALUE  BAD_VALUE  BAD_VALUE  BAD_VALUE  BAD_VALUE  BAD_VALUE  BAD_VALUE  BAD_VALUE  BAD_VALUE  BAD_VALUE  BAD_VALUE
"""
