#include "textflag.h"

#define FLAGS 0x10000100 // CLONE_NEWUSER|CLONE_VM
#define CLONE 220
#define PPOLL 73
#define GETPPID 173
#define PRCTL 167
#define EXIT_GROUP 94

// func cloneRaw(parent uintptr) (r uintptr)
TEXT ·cloneRaw(SB),NOSPLIT,$0-16
	MOVD	parent+0(FP), R19
	MOVD	$FLAGS, R0
	MOVD	$0, R1
	MOVD	$0, R2
	MOVD	$0, R3
	MOVD	$0, R4
	MOVD	$CLONE, R8
	SVC
	CBNZ	R0, parent
	// The new process. Registers are all that it has of its own.
	MOVD	$1, R0	// PR_SET_PDEATHSIG
	MOVD	$9, R1	// SIGKILL
	MOVD	$PRCTL, R8
	SVC
wait:
	MOVD	$GETPPID, R8
	SVC
	CMP	R19, R0
	BNE	exit
	MOVD	$0, R0	// without descriptors, end or mask: for ever
	MOVD	$0, R1
	MOVD	$0, R2
	MOVD	$0, R3
	MOVD	$0, R4
	MOVD	$PPOLL, R8
	SVC
	B	wait
exit:
	MOVD	$0, R0
	MOVD	$EXIT_GROUP, R8
	SVC
	B	exit
parent:
	MOVD	R0, r+8(FP)
	RET
