package engine

import (
	"container/list"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// quantum is how many executions of one instance are given out in one turn.
const quantum = 16

// queueEnd is the end of an instance's queue at which a job is put.
type queueEnd bool

const (
	back  queueEnd = false // new executions
	front queueEnd = true  // executions that have begun, which are to finish first
)

// fairQueue holds pending jobs. Customers take turns; in a turn a customer gets quantum
// executions times its weight, from its instances in turn. Within an instance the order
// is that of acceptance. A customer or an instance at its cap, and an instance on hold,
// are passed over.
// It is guarded by the engine's mutex.
type fairQueue struct {
	weights   map[id.Customer]uint32
	cap       int
	size      int
	customers map[id.Customer]*customerQueue
	turns     *list.List // of *customerQueue that have jobs, the next first
	running   map[id.Customer]int
	caps      map[id.Instance]uint32
	inFlight  map[id.Instance]int
	held      map[id.Instance]bool
	drained   bool // nothing in the queue may be given out
}

type customerQueue struct {
	id        id.Customer
	credit    int // executions left in this turn
	instances map[boundKey]*instanceQueue
	turns     *list.List // of *instanceQueue, the next first
	turn      *list.Element
}

type instanceQueue struct {
	key  boundKey
	jobs *list.List // of *job
	turn *list.Element
	at   map[id.Execution]*list.Element
}

func newFairQueue(limit int) fairQueue {
	return fairQueue{
		cap: limit, customers: map[id.Customer]*customerQueue{}, turns: list.New(), running: map[id.Customer]int{},
		held: map[id.Instance]bool{}, caps: map[id.Instance]uint32{}, inFlight: map[id.Instance]int{},
	}
}

func (q *fairQueue) push(j *job, end queueEnd) {
	c := q.customers[j.customer]
	if c == nil {
		c = &customerQueue{id: j.customer, instances: map[boundKey]*instanceQueue{}, turns: list.New()}
		c.turn = q.turns.PushBack(c)
		q.customers[j.customer] = c
	}
	key := boundKey{j.instance, j.digest}
	i := c.instances[key]
	if i == nil {
		i = &instanceQueue{key: key, jobs: list.New(), at: map[id.Execution]*list.Element{}}
		i.turn = c.turns.PushBack(i)
		c.instances[key] = i
	}
	if _, ok := i.at[j.execution]; ok {
		return
	}
	if end == front {
		i.at[j.execution] = i.jobs.PushFront(j)
	} else {
		i.at[j.execution] = i.jobs.PushBack(j)
	}
	q.size++
	q.drained = false
}

// passes reports whether a new job may be given out at once: nobody is before it.
func (q *fairQueue) passes(j *job) bool {
	return (q.size == 0 || q.drained) && q.customers[j.customer] == nil &&
		q.running[j.customer] < q.cap && q.instanceRoom(j.instance) > 0
}

// instanceRoom is how many more executions of an instance may run.
func (q *fairQueue) instanceRoom(i id.Instance) int {
	if q.held[i] {
		return 0
	}
	if limit, ok := q.caps[i]; ok {
		return int(limit) - q.inFlight[i]
	}
	return q.cap
}

// hold keeps an instance from being given out, or ends that.
func (q *fairQueue) hold(i id.Instance, held bool) {
	if held {
		q.held[i] = true
	} else {
		delete(q.held, i)
	}
	q.drained = false
}

func (q *fairQueue) remove(j *job) {
	c := q.customers[j.customer]
	if c == nil {
		return
	}
	i := c.instances[boundKey{j.instance, j.digest}]
	if i == nil {
		return
	}
	if at, ok := i.at[j.execution]; ok {
		q.take(c, i, at)
	}
}

func (q *fairQueue) take(c *customerQueue, i *instanceQueue, at *list.Element) *job {
	j := i.jobs.Remove(at).(*job)
	delete(i.at, j.execution)
	q.size--
	if i.jobs.Len() == 0 {
		c.turns.Remove(i.turn)
		delete(c.instances, i.key)
	}
	if c.turns.Len() == 0 {
		q.turns.Remove(c.turn)
		delete(q.customers, c.id)
	}
	return j
}

// next takes up to limit jobs of one instance: those whose turn it is and that place puts
// with a runner. None means that nothing may be given out.
func (q *fairQueue) next(limit int, place func(*job) bool) []*job {
	for range q.turns.Len() {
		c := q.turns.Front().Value.(*customerQueue)
		room := min(limit, quantum, q.cap-q.running[c.id])
		if i := q.ready(c); i != nil && room > 0 {
			if jobs := q.serve(c, i, min(room, q.instanceRoom(i.key.instance)), place); len(jobs) > 0 {
				return jobs
			}
			c.turns.MoveToBack(i.turn)
		}
		c.credit = 0
		q.turns.MoveToBack(c.turn)
	}
	q.drained = limit > 0
	return nil
}

// ready is the customer's next instance of which more may run.
func (q *fairQueue) ready(c *customerQueue) *instanceQueue {
	for range c.turns.Len() {
		i := c.turns.Front().Value.(*instanceQueue)
		if q.instanceRoom(i.key.instance) > 0 {
			return i
		}
		c.turns.MoveToBack(i.turn)
	}
	return nil
}

func (q *fairQueue) serve(c *customerQueue, i *instanceQueue, room int, place func(*job) bool) []*job {
	if c.credit <= 0 {
		c.credit = quantum * int(max(q.weights[c.id], 1))
	}
	room = min(room, c.credit)
	jobs := make([]*job, 0, min(room, i.jobs.Len()))
	for len(jobs) < room && i.jobs.Len() > 0 && place(i.jobs.Front().Value.(*job)) {
		jobs = append(jobs, q.take(c, i, i.jobs.Front()))
	}
	if len(jobs) == 0 {
		return nil
	}
	c.credit -= len(jobs)
	if _, ok := c.instances[i.key]; ok {
		c.turns.MoveToBack(i.turn)
	}
	if _, ok := q.customers[c.id]; ok && c.credit <= 0 {
		q.turns.MoveToBack(c.turn)
	}
	return jobs
}

// ran counts a job that begins to run (1), or does no more (-1).
func (q *fairQueue) ran(j *job, by int) {
	if q.running[j.customer] += by; q.running[j.customer] <= 0 {
		delete(q.running, j.customer)
	}
	if q.inFlight[j.instance] += by; q.inFlight[j.instance] <= 0 {
		delete(q.inFlight, j.instance)
	}
	q.drained = q.drained && by > 0
}
