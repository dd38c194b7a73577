package kube

import (
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// fills are what Kubernetes fills in where a pod, or what goes with it, says nothing, and the values that it may be, as JSON; none for any value. Names of
// elements are left out of paths, and init containers are as containers.
var fills = map[string][]string{
	"spec.nodeName":                                         nil,
	"spec.serviceAccount":                                   {`"default"`},
	"spec.serviceAccountName":                               {`"default"`},
	"spec.priority":                                         {`0`},
	"spec.preemptionPolicy":                                 {`"PreemptLowerPriority"`},
	"spec.enableServiceLinks":                               {`true`},
	"spec.dnsPolicy":                                        {`"ClusterFirst"`},
	"spec.restartPolicy":                                    {`"Always"`},
	"spec.schedulerName":                                    {`"default-scheduler"`},
	"spec.securityContext":                                  {`{}`},
	"spec.terminationGracePeriodSeconds":                    {`30`},
	"spec.containers[].terminationMessagePath":              {`"/dev/termination-log"`},
	"spec.containers[].terminationMessagePolicy":            {`"File"`},
	"spec.containers[].imagePullPolicy":                     {`"Always"`, `"IfNotPresent"`},
	"spec.containers[].resources":                           {`{}`},
	"spec.containers[].ports[].protocol":                    {`"TCP"`},
	"spec.containers[].env[].value":                         {`""`},
	"spec.containers[].env[].valueFrom.fieldRef.apiVersion": {`"v1"`},
	"spec.volumes[].secret.defaultMode":                     {`420`},
	"spec.volumes[].configMap.defaultMode":                  {`420`},
	"spec.volumes[].projected.defaultMode":                  {`420`},
	"spec.volumes[].emptyDir":                               {`{}`},
	"spec.volumes[].hostPath.type":                          {`""`},
	"spec.tolerations[]": {
		`{"effect":"NoExecute","key":"node.kubernetes.io/not-ready","operator":"Exists","tolerationSeconds":300}`,
		`{"effect":"NoExecute","key":"node.kubernetes.io/unreachable","operator":"Exists","tolerationSeconds":300}`,
	},
	"metadata.labels.topology.kubernetes.io/zone":   nil,
	"metadata.labels.topology.kubernetes.io/region": nil,

	"service.spec.clusterIP":                     nil,
	"service.spec.clusterIPs":                    nil,
	"service.spec.ipFamilies":                    nil,
	"service.spec.ipFamilyPolicy":                {`"SingleStack"`},
	"service.spec.internalTrafficPolicy":         {`"Cluster"`},
	"service.spec.externalTrafficPolicy":         {`"Cluster"`},
	"service.spec.allocateLoadBalancerNodePorts": {`true`},
	"service.spec.sessionAffinity":               {`"None"`},
	"service.spec.ports[].nodePort":              nil,
}

// probeFills are of a probe, wherever it is.
var probeFills = map[string]string{
	"timeoutSeconds": `1`, "periodSeconds": `10`, "successThreshold": `1`, "failureThreshold": `3`, "httpGet.scheme": `"HTTP"`,
}

var (
	elementNames = regexp.MustCompile(`\[.*?\](\.|$|\[)`)
	ofProbe      = regexp.MustCompile(`^spec\.containers\[\]\.(?:liveness|readiness|startup)Probe\.(.+)$`)
	ofRequests   = regexp.MustCompile(`^(spec\.(?:initContainers|containers)\[[^\]]*\]\.resources)\.requests\.(.+)$`)
)

// filled says whether a field that was not submitted is one that Kubernetes fills in itself.
func (c *comparison) filled(path string, held any) bool {
	if m := ofRequests.FindStringSubmatch(path); m != nil {
		limit := lookup(c.held, m[1]+".limits")[m[2]] // what is not requested is requested as it is limited
		return limit != nil && reflect.DeepEqual(limit, held)
	}
	plain := strings.Replace(elementNames.ReplaceAllString(path, "[]$1"), "spec.initContainers", "spec.containers", 1)
	value := string(encoded(held))
	if m := ofProbe.FindStringSubmatch(plain); m != nil {
		return probeFills[m[1]] == value
	}
	values, known := fills[c.of+plain]
	return known && (values == nil || slices.Contains(values, value))
}

// lookup returns the fields at a path of spec.
func lookup(object map[string]any, path string) map[string]any {
	for _, step := range strings.Split(path, ".") {
		name, element, is := strings.Cut(step, "[")
		if !is {
			object, _ = object[name].(map[string]any)
			continue
		}
		list, _ := object[name].([]any)
		if !ofObjects(list) {
			return nil
		}
		object, _ = named(list)[strings.TrimSuffix(element, "]")].(map[string]any)
	}
	return object
}
