"""The application under an init, from the init's boot to the application's exit.

application        the whole course, from Start to the shutdown of the init
app_life           the application's phases, and which may follow which
booting            from a created init to an application that may run
boot_queue         limits how many inits of the node boot at once
progress_deadline  how long the shim waits for a boot
boot_console       what PID 1 prints while it boots
adopt              recognises the launcher that connects for the application
app_streams        the descriptors that the application gets
app_exit           how the application ended
restarts           counts and bounds the application's restarts by the init
stop               whether the application is being stopped, and since when
timeouts           the timeouts of the application and its init
shutdown           tells the init that its application has ended
listening          a socket in the run directory
halt               how an init without CAP_SYS_BOOT reports the end of its shutdown
"""
