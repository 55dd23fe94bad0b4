package layout

// procRules: the possible processes, and what they have in shared memory.
func procRules() []rule {
	return []rule{
		{
			in:    itself("MaxLivePostmasterChildren"), // if (num_pmchild_slots == 0) elog(ERROR, ...)
			shape: `^if(i32.eqz(tee(i32.load($num_pmchild_slots))))`,
		},
		{
			in:    itself("InitProcess"), // if (IsUnderPostmaster)
			shape: `if(i32.eq(i32.load8_u($IsUnderPostmaster), 1)); f$RegisterPostmasterChildActive`,
		},
		{
			in:    itself("RegisterPostmasterChildActive"), // PMSignalState->PMChildFlags[MyPMChildSlot - 1] = PM_CHILD_ACTIVE
			shape: `i32.store+_(i32.add(i32.load($PMSignalState), i32.shl(i32.load($MyPMChildSlot), 2)), 2)`,
		},
		{in: says("pmsignal.c", "PostmasterIsAliveInternal"), is: "PostmasterIsAliveInternal"},
		{
			in:    itself("PostmasterIsAliveInternal"), // read(postmaster_alive_fds[POSTMASTER_FD_WATCH], &c, 1)
			shape: `f$read(i32.load($postmaster_alive_fds), _, 1)`,
		},
		{
			in:    itself("InitProcess"), // MyProcNumber = MyProc - ProcGlobal->allProcs
			shape: `i32.store($MyProcNumber, i32.div_s(i32.sub(tee(i32.load($MyProc)), i32.load+$PROC_HDR.allProcs(i32.load($ProcGlobal))), $sizeof.PGPROC))`,
		},
		{
			in:    itself("InitProcess"), // MyProc->pid = MyProcPid
			shape: `i32.store+$PGPROC.pid(_, i32.load($MyProcPid))`,
		},
		{
			in:    itself("InitProcess"), // OwnLatch(&MyProc->procLatch); SwitchToSharedLatch()
			shape: `f$OwnLatch(i32.add(_, $PGPROC.procLatch)); f$SwitchToSharedLatch`,
		},
		{
			in:    itself("SwitchToSharedLatch"), // MyLatch = &MyProc->procLatch
			shape: `i32.store($MyLatch, i32.add(i32.load($MyProc), $PGPROC.procLatch))`,
		},
		// if (MyProc->pid != (int) getpid()) elog(PANIC, ...)
		{in: says("proc.c", "ProcKill"), is: "ProcKill", shape: `if(i32.eq(i32.load+$PGPROC.pid(i32.load($MyProc)), 42))`},
		{in: says("proc.c", "AuxiliaryProcKill"), is: "AuxiliaryProcKill", shape: `if(i32.eq(i32.load+$PGPROC.pid(i32.load($MyProc)), 42))`},
		{
			in: says("postmaster.c", "PostmasterStateMachine"), is: "PostmasterStateMachine", // UpdatePMState, inlined
			shape: `i32.store+_(_, "PM_STOP_BACKENDS"); i32.store+_(_, i32.load(i32.add(i32.shl(i32.load($pmState), 2), _)));
				drop(f$errmsg_internal("updating PMState from %s to %s", _))`,
		},
	}
}

// checkpointRules: the checkpointer, and the requests for checkpoints.
func checkpointRules() []rule {
	return []rule{
		{in: says("xlog.c", "CreateCheckPoint"), is: "CreateCheckPoint"},
		{
			in: calls("CreateCheckPoint"), is: "RequestCheckpoint", // PGlite's: calls CreateCheckPoint(flags | CHECKPOINT_FAST) directly
			shape: `^drop(f$CreateCheckPoint(i32.or(_, 4))); f$smgrdestroyall; end`,
		},
		{
			in:    itself("CheckpointerMain"), // CheckpointerShmem->checkpointer_pid = MyProcPid
			shape: `i32.store+$CheckpointerShmemStruct.checkpointer_pid(i32.load($CheckpointerShmem), i32.load($MyProcPid))`,
		},
		{
			in:    itself("CheckpointerMain"), // ProcGlobal->checkpointerProc = MyProcNumber
			shape: `i32.store+$PROC_HDR.checkpointerProc(i32.load($ProcGlobal), i32.load($MyProcNumber))`,
		},
		{
			in:    itself("WalWriterMain"), // ProcGlobal->walwriterProc = MyProcNumber
			shape: `i32.store+$PROC_HDR.walwriterProc(i32.load($ProcGlobal), i32.load($MyProcNumber))`,
		},
		{
			in: itself("CheckpointerMain"), // a checkpoint begins
			shape: `i32.store+$CheckpointerShmemStruct.ckpt_lck(tee %shm(i32.load($CheckpointerShmem)), 0);
				set(i32.load+$CheckpointerShmemStruct.ckpt_flags(%shm)); i32.store+$CheckpointerShmemStruct.ckpt_flags(%shm, 0);
				i32.store+$CheckpointerShmemStruct.ckpt_started(%shm, i32.add(i32.load+$CheckpointerShmemStruct.ckpt_started(%shm), 1));
				...; f$invoke_vi(&ConditionVariableBroadcast, i32.add(%shm, $CheckpointerShmemStruct.start_cv))`,
		},
		{
			in: itself("CheckpointerMain"), // it failed
			shape: `i32.store+$CheckpointerShmemStruct.ckpt_done(%shm, i32.load+$CheckpointerShmemStruct.ckpt_started(%shm));
				i32.store+$CheckpointerShmemStruct.ckpt_failed(%shm, i32.add(i32.load+$CheckpointerShmemStruct.ckpt_failed(%shm), 1));
				...; f$invoke_vi(&ConditionVariableBroadcast, i32.add(%shm, $CheckpointerShmemStruct.done_cv))`,
		},
		{
			in: calls("LWLockAcquire"), is: "AbsorbSyncRequests", // only the checkpointer calls it
			shape: `^block; br_if(i32.ne(i32.load($MyBackendType), 11)); drop(f$LWLockAcquire(_, 0)); ...;
				br_if(i32.le_s(i32.load+$CheckpointerShmemStruct.num_requests(i32.load($CheckpointerShmem)), 0))`,
		},
	}
}

// sessionRules: a client's process.
func sessionRules() []rule {
	return []rule{
		{
			in:    itself("BackendMain"), // BackendInitialize(MyClientSocket, ...)
			shape: `^set %socket(i32.load($MyClientSocket)); ...; set(f$pq_init(%socket))`,
		},
		{
			in:    itself("BackendMain"), // what it then calls is indeed InitProcess
			shape: `f$InitProcess; i32.store($CurrentMemoryContext, i32.load($TopMemoryContext))`,
		},
		{
			in:    itself("PostgresSendReadyForQueryIfNecessary"), // PGlite's
			shape: `^if(i32.eq(i32.load8_u($send_ready_for_query), 1))`,
		},
		{
			in:    itself("pgl_setPGliteActive"), // PGlite's: it returns the old value
			shape: `set %old(i32.load(tee %at($pglite_active))); i32.store(%at, _); ...; end(%old)`,
		},
		{
			in:    says("StartTransaction"), // MyProc->vxid.lxid = vxid.localTransactionId
			shape: `i32.store+$PGPROC.vxid.lxid(i32.load($MyProc), _)`,
		},
		{
			in:    itself("IsTransactionBlock"), // CurrentTransactionState->blockState
			shape: `i32.load+$TransactionStateData.blockState(i32.load($CurrentTransactionState))`,
		},
		{
			in: says("xact.c", "CommitTransaction"), is: "CommitTransaction", // RecordTransactionCommit is inlined
			shape: `i64.store($XactLastCommitEnd, i64.load($XactLastRecEnd)); i64.store($XactLastRecEnd, 0)`,
		},
		{
			in:    itself("GetXLogReplayRecPtr"), // recptr = XLogRecoveryCtl->lastReplayedEndRecPtr
			shape: `i32.store+_(tee %shm(i32.load($XLogRecoveryCtl)), 0); set(i64.load+$XLogRecoveryCtlData.lastReplayedEndRecPtr(%shm))`,
		},
	}
}

// waitRules: where processes wait for each other.
func waitRules() []rule {
	var all []rule
	for _, w := range semaphoreWaits() {
		all = append(all, w.find...)
		all = append(all, rule{in: itself(w.function), shape: semaphoreWait("$PGPROC." + w.field)})
	}
	return append(all, rule{
		in: says("waiteventset.c", "WaitEventSetWaitBlock"), is: "WaitEventSetWait", // rc = poll(...), which is nevents here
		shape: `drop(i32.load+$WaitEventSet.pollfds(%set)); block; if(i32.lt_s(tee(i32.load+$WaitEventSet.nevents(%set)), 0))`,
	})
}

// semaphoreWait is the shape of a PGSemaphoreLock. PGlite's does nothing, so a process that should sleep until another
// one clears a field of its PGPROC loops forever.
func semaphoreWait(field string) string {
	return `loop; drop(i32.load+$PGPROC.sem(_)); set(i32.add(_, 1)); br_if(i32.load8_u+` + field + `(_))`
}

type wait struct {
	function string
	field    string // of PGPROC
	find     []rule
}

// semaphoreWaits are all the functions that wait this way.
func semaphoreWaits() []wait {
	return []wait{
		{function: "LWLockAcquire", field: "lwWaiting"},
		{
			function: "LWLockDequeueSelf", field: "lwWaiting", find: []rule{
				{in: says("lwlock.c", "LWLockQueueSelf"), is: "LWLockQueueSelf"},
				{in: itself("LWLockAcquire"), shape: `f$LWLockQueueSelf(%lock, _); ...; f$LWLockDequeueSelf(%lock)`},
			},
		},
		{function: "XLogFlush", field: "lwWaiting"}, // LWLockAcquireOrWait
		{
			function: "WaitXLogInsertionsToFinish", field: "lwWaiting", // LWLockWaitForVar
			find: []rule{{in: says("xlog.c", "WaitXLogInsertionsToFinish"), is: "WaitXLogInsertionsToFinish"}},
		},
		{
			function: "ProcArrayEndTransaction", field: "procArrayGroupMember", find: []rule{
				{in: says("lwlock.c", "LWLockConditionalAcquire"), is: "LWLockConditionalAcquire"},
				{
					in: calls("LWLockConditionalAcquire"), is: "ProcArrayEndTransaction", // ProcArrayGroupClearXid
					shape: `i32.store+$PGPROC.procArrayGroupMemberXid(%proc, _); i32.store8+$PGPROC.procArrayGroupMember(%proc, 1);
						i32.store+$PGPROC.procArrayGroupNext(%proc, _)`,
				},
			},
		},
		{
			function: "TransactionIdSetPageStatus", field: "clogGroupMember", find: []rule{{
				in: calls("LWLockConditionalAcquire"), is: "TransactionIdSetPageStatus", // TransactionGroupUpdateXidStatus
				shape: `i64.store+$PGPROC.clogGroupMemberLsn(tee %proc(_), _); i64.store+$PGPROC.clogGroupMemberPage(%proc, _);
					i32.store+$PGPROC.clogGroupMemberXidStatus(%proc, _); i32.store+$PGPROC.clogGroupMemberXid(%proc, _);
					i32.store8+$PGPROC.clogGroupMember(%proc, 1)`,
			}},
		},
	}
}
