"""`locksmith run`: a command on one machine of many, which never runs outside the lease that allows it.

    supervisor --orders--> guardian --fork, exec--> the command, in a session of its own
               <-reports--

`plan` decides and touches nothing; `supervisor` acts; `guardian` is a small process that starts the command, knows its
deadline and ends it in time whatever becomes of the supervisor; `orders` is how people speak to all of them.
"""
