package provision

// way is one way to a cluster's API. It is closed when nobody uses it any more
// and nobody else will: a call under way is not cut off.
type way struct {
	Cluster
	users int
	old   bool
}

// client gives the way to the run's cluster; release it after use. The
// administrator gets it too.
func (e *Engine) client(r *run) (client Cluster, release func(), err error) {
	c := r.cluster
	c.opening.Lock()
	defer c.opening.Unlock()
	if c.way == nil {
		if c.way, err = e.openLocked(r); err != nil {
			return nil, func() {}, err
		}
	}
	w := c.way
	w.users++
	return w.Cluster, func() {
		c.opening.Lock()
		defer c.opening.Unlock()
		w.users--
		w.closeIfUnused()
	}, nil
}

func (e *Engine) openLocked(r *run) (*way, error) {
	c := r.cluster
	keys, err := e.secretsLocked(r)
	if err != nil {
		return nil, err
	}
	client, err := e.Clusters.Flavour.Connect(c.present(), keys.kubeconfig)
	if err != nil {
		return nil, err
	}
	path, err := e.Clusters.Vault.KeepKubeconfig(keys.kubeconfig)
	if err != nil {
		client.Close()
		return nil, err
	}
	c.mu.Lock()
	c.kubeconfig = path
	c.mu.Unlock()
	return &way{Cluster: client}, nil
}

// reconnect forgets the way to the API, so that the next one knows who is left.
func (c *cluster) reconnect() {
	c.opening.Lock()
	defer c.opening.Unlock()
	if c.way != nil {
		c.way.old = true
		c.way.closeIfUnused()
		c.way = nil
	}
}

func (w *way) closeIfUnused() {
	if w.old && w.users == 0 {
		w.Close()
	}
}
