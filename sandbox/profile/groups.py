"""Named groups of system calls: the one table that profiles, the documentation and the tests use.  (cold)

A call stands in exactly one group (a test holds that).  Names that only one architecture has are fine here: the
compiler skips them elsewhere.  What is on no list gets the profile's default.
"""

_WORDS = {
    # paths: open, look at, make, remove, rename, link, mode, owner, times
    "@file-system": """
        access chdir chmod chown close close_range creat faccessat faccessat2 fallocate fchdir fchmod fchmodat fchmodat2
        fchown fchownat file_getattr file_setattr flock fstat fstatfs ftruncate futimesat getcwd getdents getdents64
        inotify_add_watch inotify_init inotify_init1 inotify_rm_watch lchown link linkat lstat mkdir mkdirat newfstatat
        open openat openat2 readlink readlinkat rename renameat renameat2 rmdir stat statfs statx symlink symlinkat
        truncate umask unlink unlinkat utime utimensat utimes chroot""",
    "@xattr": """
        fgetxattr flistxattr fremovexattr fsetxattr getxattr getxattrat lgetxattr listxattr listxattrat llistxattr
        lremovexattr lsetxattr removexattr removexattrat setxattr setxattrat""",
    # open files: read, write, copy, duplicate, flush
    "@file-io": """
        cachestat copy_file_range dup dup2 dup3 fadvise64 fcntl fdatasync fsync lseek pipe pipe2 pread64 preadv preadv2
        pwrite64 pwritev pwritev2 read readahead readv sendfile splice sync sync_file_range syncfs tee vmsplice write
        writev""",
    "@async-io": "io_cancel io_destroy io_getevents io_pgetevents io_setup io_submit",
    "@events": """
        epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2 poll ppoll pselect6
        select signalfd signalfd4""",
    "@memory": """
        brk get_mempolicy madvise map_shadow_stack mbind membarrier memfd_create mincore mlock mlock2 mlockall mmap
        mprotect mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect remap_file_pages
        set_mempolicy set_mempolicy_home_node""",
    "@process": """
        arch_prctl execve execveat exit exit_group fork get_robust_list getpgid getpgrp getpid getppid getrusage getsid
        gettid pidfd_open process_mrelease restart_syscall rseq set_robust_list set_tid_address setpgid setsid times
        uprobe uretprobe vfork wait4 waitid""",
    "@signal": """
        alarm kill pause pidfd_send_signal rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn
        rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo sigaltstack tgkill tkill""",
    "@sync": "futex futex_requeue futex_wait futex_waitv futex_wake",
    # the two adjtime calls read as often as they set, and what they are to do lies in memory; setting needs a
    # capability over the first user namespace, which nobody in a sandbox has
    "@time": """
        adjtimex clock_adjtime clock_getres clock_gettime clock_nanosleep getitimer gettimeofday nanosleep setitimer
        time timer_create timer_delete timer_getoverrun timer_gettime timer_settime timerfd_create timerfd_gettime
        timerfd_settime""",
    "@identity": """
        capget capset getegid geteuid getgid getgroups getresgid getresuid getuid setfsgid setfsuid setgid setgroups
        setregid setresgid setresuid setreuid setuid""",
    "@limits": """
        getpriority getrlimit ioprio_get ioprio_set prlimit64 sched_get_priority_max sched_get_priority_min
        sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval sched_setaffinity
        sched_setattr sched_setparam sched_setscheduler sched_yield setpriority setrlimit""",
    "@ipc": """
        mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink msgctl msgget msgrcv msgsnd semctl semget
        semop semtimedop shmat shmctl shmdt shmget""",
    # everything that is done with a socket once there is one; `socket` itself is a matter of families
    "@socket-io": """
        accept accept4 bind connect getpeername getsockname getsockopt listen recvfrom recvmmsg recvmsg sendmmsg sendmsg
        sendto setsockopt shutdown""",
    "@system-info": "getcpu getrandom sysinfo uname",
    "@self-confinement": "landlock_add_rule landlock_create_ruleset landlock_restrict_self seccomp",
    "@debug": "process_vm_readv ptrace",
    # -- what the built-in profiles refuse, named so that the refusal can be said in one word --
    "@socket-family": "socket socketpair",
    "@foreign-process": "kcmp pidfd_getfd process_madvise process_vm_writev",
    "@mount": "mount pivot_root umount umount2",
    "@mount-api": "fsconfig fsmount fsopen fspick mount_setattr move_mount open_tree open_tree_attr",
    "@mount-info": "listmount listns statmount",
    "@keyring": "add_key keyctl request_key",
    "@io-uring": "io_uring_enter io_uring_register io_uring_setup",
    "@observe-kernel": "bpf fanotify_init fanotify_mark lookup_dcookie perf_event_open syslog userfaultfd",
    "@kernel-control": """
        acct delete_module finit_module init_module ioperm iopl kexec_file_load kexec_load quotactl quotactl_fd reboot
        setdomainname sethostname swapoff swapon vhangup""",
    "@set-clock": "clock_settime settimeofday stime",
    "@file-handle": "name_to_handle_at open_by_handle_at",
    "@move-pages": "migrate_pages move_pages",
    "@lsm": "lsm_get_self_attr lsm_list_modules lsm_set_self_attr",
    "@multiplexer": "ipc socketcall",
    "@obsolete": """
        _sysctl afs_syscall bdflush create_module epoll_ctl_old epoll_wait_old get_kernel_syms get_thread_area getpmsg
        modify_ldt nfsservctl putpmsg query_module security set_thread_area sysfs tuxcall uselib ustat vm86 vm86old
        vserver""",
}

GROUPS: dict[str, tuple[str, ...]] = {group: tuple(sorted(words.split())) for group, words in _WORDS.items()}
