package openapi

// Limits of a document. They are checked while it is read, before anything is made of it.
const (
	MaxDocument   = 10 << 20 // bytes
	MaxNesting    = 200      // of its objects and lists
	MaxNodes      = 4 << 20  // values, with the aliases of YAML expanded
	MaxReferences = 200_000
	MaxOperations = 5000
	MaxViolations = 200 // that are reported one by one

	maxResolve   = 30       // references that lead to references
	maxLooks     = 2000     // schemas that are looked at to say what one is: allOf of allOf grows without end
	maxMerge     = 40       // schemas that one allOf combines
	maxHeld      = 20       // reasons and places held of each group in a report
	maxNameWords = 200      // bytes of a path or operationId that a name is made of
	MaxSide      = 4 << 20  // bytes of a side file
	maxAnswer    = 64 << 20 // bytes that the reading child may answer
)
