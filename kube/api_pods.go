package kube

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// podReady tells whether a pod does its work, and since when it does or not.
func podReady(pod *corev1.Pod) (ok bool, since time.Time) {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue && pod.DeletionTimestamp == nil, c.LastTransitionTime.Time
		}
	}
	return false, time.Time{}
}

// podTrouble says in words why a pod is not ready. warning is the newest of the
// cluster's warnings about it, or nil.
func podTrouble(pod *corev1.Pod, warning *corev1.Event) string {
	if pod.DeletionTimestamp != nil {
		return "it is being ended"
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return strings.TrimSpace("no node takes it: " + c.Reason + ": " + c.Message)
		}
	}
	for _, group := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for _, c := range group {
			if text := containerTrouble(c); text != "" {
				if c.State.Waiting != nil && vague(c.State.Waiting.Reason) {
					text += warned(warning)
				}
				return text
			}
		}
	}
	if pod.Status.Phase == corev1.PodFailed {
		return "it failed: " + pod.Status.Reason + ": " + pod.Status.Message
	}
	return "it is not started yet" + warned(warning)
}

// vague tells whether a reason says only that it is not time yet.
func vague(reason string) bool {
	return reason == "" || reason == "ContainerCreating" || reason == "PodInitializing"
}

func warned(e *corev1.Event) string {
	if e == nil {
		return ""
	}
	return fmt.Sprintf(" (last warning: %s: %s)", e.Reason, e.Message)
}

// containerTrouble is "" for a container that runs and is ready, or has ended well.
func containerTrouble(c corev1.ContainerStatus) string {
	switch {
	case c.State.Waiting != nil:
		text := "container " + c.Name + " waits: " + c.State.Waiting.Reason
		if c.State.Waiting.Message != "" {
			text += ": " + c.State.Waiting.Message
		}
		if t := c.LastTerminationState.Terminated; t != nil {
			text += "; " + ended(t)
		}
		return text
	case c.State.Terminated != nil && (c.State.Terminated.ExitCode != 0 || !c.Ready && c.State.Terminated.Reason != "Completed"):
		return "container " + c.Name + ": " + ended(c.State.Terminated)
	case c.State.Running != nil && !c.Ready && (c.Started == nil || !*c.Started):
		return "container " + c.Name + " is starting"
	case c.State.Running != nil && !c.Ready:
		return "container " + c.Name + " runs and is not ready"
	}
	return ""
}

func ended(t *corev1.ContainerStateTerminated) string {
	text := fmt.Sprintf("it ended with code %d", t.ExitCode)
	if t.Reason != "" && t.Reason != "Error" {
		text += ", " + t.Reason
	}
	if t.Message != "" {
		text += ": " + t.Message
	}
	return text
}

// isReadyEtcd finds kubeadm's static pods of etcd.
func isReadyEtcd(pod *corev1.Pod) bool {
	ok, _ := podReady(pod)
	return ok && pod.Labels["component"] == "etcd"
}
