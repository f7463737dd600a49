"""The application under an init, from the init's boot to the application's exit.

application   from Start to the stop of what is around it
app_life      its phases, and what may follow upon what
booting       from a created init to an application that may run
boot_queue    the boot's turn among the node's
patience      how long a boot is waited for
boot_console  what PID 1 says meanwhile
adopt         who connects for the application
app_streams   the descriptors that it gets
app_exit      how it ended
restarts      that init started it again, or no more
stop          whether it is being stopped, and since when
limits        the times that it and its init have
shutdown      how an init is told that its application has ended
halt          how an init says that it is done
"""
