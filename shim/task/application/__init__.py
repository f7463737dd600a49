"""The application under an init, from the init's boot to the application's exit.

application   its life, from Start to the stop of what is around it
booting       from a created init to an application that may run
boot_queue    the boot's turn among the node's
patience      how long a boot is waited for
boot_console  what PID 1 says meanwhile
adopt         who connects for the application, and what it gets
app_exit      how it ended
halt          how an init says that it is done
"""
