package worker

import "time"

// Limits of one worker. What is over one is a fault of the execution, or the end of the link when the runner is at fault.
const (
	// DefaultMemory is the memory of a worker in bytes, when nobody says it.
	DefaultMemory = 64 << 20
	// MaxExecutions is how many executions a worker holds at once.
	MaxExecutions = 4096
	// MaxBranches is how many goroutines the parallel loops of one execution may use beyond its own.
	MaxBranches = 256
	// MaxEntries is how many journal entries one execution may write.
	MaxEntries = 5_000_000
	// MaxLive is how many journal entries a resume may need: those of what is unfinished.
	MaxLive = 60_000
	// MaxInline is the largest result in bytes that is kept in the journal itself; a larger one goes to a blob.
	MaxInline = 128 << 10
	// MaxAppend is the most bytes of entries that one append carries.
	MaxAppend = 1 << 20
	// MaxBehind is how many groups of entries may be under way when a safe request begins.
	MaxBehind = 8
	// MaxRequest is the largest request in bytes as it travels, with its parts, headers and query.
	MaxRequest = 7 << 19
	// MaxLabel is the longest label in bytes; a longer one is left out.
	MaxLabel = 1 << 10
	// MaxOutput is the largest output of an execution in bytes.
	MaxOutput = 2 << 20
	// MaxLoad is the largest answer in bytes that is read into memory; ask for a file to go through more.
	MaxLoad = 16 << 20
	// MaxBody is the largest request body in bytes that is built in memory.
	MaxBody = 16 << 20
	// MaxFrameBody is the largest request body in bytes that travels in a frame; a larger one goes by blob.
	MaxFrameBody = 1 << 20
	// MaxCodeInput is the largest input of a code step in bytes.
	MaxCodeInput = 3 << 20
	// MaxRow is the longest row of a file in bytes.
	MaxRow = 1 << 20
	// MaxRounds is how many rounds one loop may make.
	MaxRounds = 10_000_000
	// MaxPages is how many pages of an action one loop may read.
	MaxPages = 1_000_000
	// MaxCallDepth is how deep executions may call each other.
	MaxCallDepth = 16
	// MaxPage is the largest page in bytes that a viewer is sent; of a larger one it gets the size.
	MaxPage = 512 << 10
	// MaxMessage is the longest message of a fault in bytes.
	MaxMessage = 4 << 10
)

const (
	// nap is the longest time that a wait or a retry stays in memory instead of freeing the worker.
	nap = 5 * time.Second
	// answerGrace is how long beyond a request's own timeout its answer may take to travel.
	answerGrace = 5 * time.Second
	// maxLeases is under how many leases one request is made, when egress nodes end one after the other.
	maxLeases = 64
	// leaseWait is how long an effect waits for a lease to be renewed before the execution is given back.
	leaseWait = 30 * time.Second
	// appendRepeat is how long an append may be without an answer until it is sent again; then twice as long, and so on.
	appendRepeat = 2 * time.Second
	// appendWait is how long an append may take to be committed.
	appendWait = 2 * time.Minute
	// hostWait is how long a state or blob operation may take.
	hostWait = 30 * time.Second
	// sandboxWait is how long a sandbox may take to start.
	sandboxWait = 15 * time.Second
	// codeMemory is the memory of one code step in bytes.
	codeMemory = 40 << 20
	// stateTries is how often a state change is tried again when another execution was faster.
	stateTries = 64
	// keptIdle is how many goroutines wait for the next execution: as many as a runner gives to one worker at a time, so that
	// their stacks are grown once.
	keptIdle = 256
	// keptLeases is how many leases stay open for answers that are under way.
	keptLeases = 4
)
