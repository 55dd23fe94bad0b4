package layout

// rule says how something is found.
type rule struct {
	in    place  // where to look
	is    string // the function that is found this way, or that has the shape; "" if it is known already
	shape string // what it looks like; "" if being in the place is enough
}

// place is a way to find functions from what is known already.
type place struct {
	how   string // with a verb: describes it in errors
	names []string
	find  func(f *finder, names []string) []uint32
}

// says finds functions that report errors: they name their source file and function.
func says(texts ...string) place {
	return place{"the function that names the texts", texts, func(f *finder, texts []string) []uint32 { return f.p.naming(texts...) }}
}

// itself is a function that is exported, or already found.
func itself(name string) place {
	return place{"the function", []string{name}, func(f *finder, names []string) []uint32 {
		if i, ok := f.function(names[0]); ok {
			return []uint32{i}
		}
		return nil
	}}
}

// calls finds the callers of a function.
func calls(name string) place {
	return place{"callers of", []string{name}, func(f *finder, names []string) []uint32 {
		i, _ := f.function(names[0])
		return f.p.callers[i]
	}}
}

// exported returns functions and variables that the binary exports, and that the host also needs in the table.
func exported() (functions, variables []string) {
	return []string{"GetXLogReplayRecPtr", "LWLockAcquire", "PostgresMainLoopOnce", "ProcessInterrupts", "XLogFlush", "pg_usleep"},
		[]string{
			"CritSectionCount", "InterruptHoldoffCount", "InterruptPending", "IsUnderPostmaster", "MainLWLockArray", "MyBackendType",
			"MyLatch", "MyProc", "MyProcPid", "MyProcPort", "ProcDiePending", "QueryCancelPending", "TransamVariables",
		}
}

// rules find everything else; each uses what earlier ones found.
func rules() []rule {
	var all []rule
	for _, part := range [][]rule{exitRules(), signalRules(), startRules(), sharedRules(), procRules(), checkpointRules(), sessionRules(), waitRules()} {
		all = append(all, part...)
	}
	return all
}

// exitRules: ipc.c, how a process ends.
func exitRules() []rule {
	return []rule{
		// Each reports an error or a message of its own.
		{in: says("ipc.c", "proc_exit"), is: "proc_exit"},
		{in: says("ipc.c", "proc_exit_prepare"), is: "proc_exit_prepare"},
		{in: says("ipc.c", "shmem_exit"), is: "shmem_exit"},
		{
			in:    itself("proc_exit_prepare"), // elog(DEBUG3, "proc_exit(%d): ...", code, on_proc_exit_index)
			shape: `i32.store+4(_, i32.load($on_proc_exit_index)); drop(f$errmsg_internal("proc_exit(%d): %d callbacks to make", _))`,
		},
		{
			in:    itself("shmem_exit"), // elog(DEBUG3, "...", code, before_shmem_exit_index)
			shape: `i32.store+20(_, i32.load($before_shmem_exit_index)); drop(f$errmsg_internal("shmem_exit(%d): %d before_shmem_exit callbacks to make", _))`,
		},
		{
			in:    itself("shmem_exit"), // elog(DEBUG3, "...", code, on_shmem_exit_index)
			shape: `i32.store+4(_, i32.load($on_shmem_exit_index)); drop(f$errmsg_internal("shmem_exit(%d): %d on_shmem_exit callbacks to make", _))`,
		},
		{
			in:    itself("shmem_exit"), // on_shmem_exit_list[on_shmem_exit_index].function(code, .arg)
			shape: `i32.store($on_shmem_exit_index, _); if(_); loop; call_indirect(_, i32.load+4(i32.add(i32.shl(_, 3), $on_shmem_exit_list)), _)`,
		},
	}
}

// signalRules: kill, and signal handlers.
func signalRules() []rule {
	return []rule{
		{in: says("procsignal.c", "SendProcSignal"), is: "SendProcSignal"}, // s_lock gets its caller's name
		{
			in:    itself("SendProcSignal"), // kill(pid, SIGUSR1)
			shape: `return(f$kill(_, 10))`,
		},
		{
			in:    itself("kill"), // PGlite's: the only process is itself, number 42
			shape: `^if(i32.eq(%pid, 42)); return(f$raise(%sig)); end; i32.store($errno, _); end(-1)`,
		},
		{
			in: calls("kill"), is: "SetLatch", // the only sender of SIGURG
			shape: `^block; br_if(i32.load(%latch)); i32.store(%latch, 1); ...; drop(f$kill(_, 23))`,
		},
		{
			in:    itself("pqsignal_be"), // pqsignal_handlers[signo] = func; act.sa_handler = wrapper_handler
			shape: `i32.store(i32.add(i32.shl(_, 2), $pqsignal_handlers), _); set(&wrapper_handler)`,
		},
		{
			in:    itself("wrapper_handler"), // if (MyProcPid != getpid()): a constant there
			shape: `^set(i32.load($errno)); if(i32.ne(i32.load($MyProcPid), 42)); f$pqsignal_be(_, 0)`,
		},
		{
			in:    itself("sigaction"), // of the C library: a table of struct sigaction
			shape: `i32.store+16(tee(i32.add(i32.mul(_, $sizeof.sigaction), $sigactions)), _)`,
		},
		{
			in:    itself("sigaction"), // errno = EINVAL, for a number that is not a signal's
			shape: `^if(i32.ge_u(_, 65)); i32.store($errno, 28); return(-1)`,
		},
	}
}

// startRules: what main does before it would fork.
func startRules() []rule {
	return []rule{
		// Each reports errors of its own.
		{in: says("miscinit.c", "InitStandaloneProcess"), is: "InitStandaloneProcess"},
		{in: says("proc.c", "InitProcess"), is: "InitProcess"},
		{in: says("hba.c", "load_hba"), is: "load_hba"},
		{
			in:    itself("__main_argc_argv"), // PostmasterMain: PostmasterPid = MyProcPid; IsPostmasterEnvironment = true
			shape: `i32.store8($IsPostmasterEnvironment, 1); i32.store($PostmasterPid, i32.load($MyProcPid))`,
		},
		{
			in:    itself("pgl_startPGlite"), // it claims to be a postmaster's child: found twice, the address is right
			shape: `i32.store8($IsPostmasterEnvironment, 1); i32.store8($IsUnderPostmaster, 1)`,
		},
		{
			in:    itself("__main_argc_argv"), // PostgresSingleUserMain: PgStartTime = GetCurrentTimestamp()
			shape: `f$CreateSharedMemoryAndSemaphores; _; i64.store($PgStartTime, f$GetCurrentTimestamp)`,
		},
		{
			in:    itself("__main_argc_argv"), // PostmasterMain, after load_hba() and load_ident()
			shape: `br_if(i32.eqz(f$load_hba)); drop(_); i64.store($PgStartTime, f$GetCurrentTimestamp)`,
		},
		{
			in:    itself("load_hba"), // AllocSetContextCreate(PostmasterContext, "hba parser context", ...)
			shape: `set(f$AllocSetContextCreateInternal(i32.load($PostmasterContext), "hba parser context", 0, 1024, 8192))`,
		},
		{
			in: itself("load_hba"), // at its end, when the file was right
			shape: `if(tee %old(i32.load($parsed_hba_context))); f$MemoryContextDelete(%old); end;
				i32.store($parsed_hba_lines, _); i32.store($parsed_hba_context, _)`,
		},
	}
}

// sharedRules: the main segment of shared memory, and its pieces.
func sharedRules() []rule {
	return []rule{
		// It reports how much memory it requests.
		{in: says("ipci.c", "CreateSharedMemoryAndSemaphores"), is: "CreateSharedMemoryAndSemaphores"},
		{
			in:    itself("CreateSharedMemoryAndSemaphores"), // PGSharedMemoryCreate, inlined
			shape: `i32.store($AnonymousShmemSize, %size); i32.store($AnonymousShmem, %segment); f$on_shmem_exit(&AnonymousShmemDetach, 0)`,
		},
		{
			in:    itself("AnonymousShmemDetach"), // it must be the one that frees that memory
			shape: `if(i32.load($AnonymousShmem)); drop(i32.load($AnonymousShmemSize)); i32.store($AnonymousShmem, 0)`,
		},
		{
			in:    itself("CreateSharedMemoryAndSemaphores"), // hdr->magic = PGShmemMagic; hdr->creatorPID = getpid()
			shape: `i32.store(%hdr, 679834894); i32.store+4(%hdr, 42); ...; i32.store(_, %hdr); i32.store($UsedShmemSegID, _); i32.store($UsedShmemSegAddr, %hdr)`,
		},
		{
			in:    itself("CreateSharedMemoryAndSemaphores"), // InitShmemAccess
			shape: `i32.store($ShmemBase, tee %hdr(_)); i32.store($ShmemSegHdr, %hdr); i32.store($ShmemEnd, i32.add(%hdr, i32.load+$PGShmemHeader.totalsize(%hdr)))`,
		},
		{
			in:    itself("CreateSharedMemoryAndSemaphores"), // InitProcGlobal
			shape: `i32.store($ProcGlobal, f$ShmemInitStruct("Proc Header", $sizeof.PROC_HDR, _))`,
		},
		{
			in:    itself("CreateSharedMemoryAndSemaphores"), // CheckpointerShmemInit
			shape: `i32.store($CheckpointerShmem, f$ShmemInitStruct("Checkpointer Data", _, _))`,
		},
		{
			in: itself("CreateSharedMemoryAndSemaphores"), // PMSignalShmemInit
			shape: `i32.store($PMSignalState, f$ShmemInitStruct("PMSignalState",
				f$add_size($PMSignalData.PMChildFlags, f$mul_size(f$MaxLivePostmasterChildren, 4)), _))`,
		},
		{
			in:    itself("CreateSharedMemoryAndSemaphores"), // PMSignalState->num_child_flags = num_child_flags
			shape: `i32.store+$PMSignalData.num_child_flags(i32.load($PMSignalState), _)`,
		},
	}
}
