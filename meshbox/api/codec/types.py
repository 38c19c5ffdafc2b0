"""Field numbers of the protobuf messages that clients send: facts of the .proto definitions published with Kubernetes.

One line a message: its name, then its fields as `number:jsonName:type`. Types:

    s string    i integer    b boolean    y bytes (base64 in JSON)    T time    Q quantity    I integer or string
    ms mq my    maps from strings to strings, quantities, bytes       F raw JSON (fieldsV1)
    Name        another message of this table

`[]` before a type: repeated. `*` before it: a pointer, so that a zero value is one the client has set; elsewhere zero
values arrive too, and mean "not set". The name `-` says that JSON shows the message's fields in their parent.
"""

from __future__ import annotations

__all__ = ["KINDS", "MESSAGES"]

MESSAGES = """
ObjectMeta 1:name:s 2:generateName:s 3:namespace:s 4:selfLink:s 5:uid:s 6:resourceVersion:s 7:generation:i \
8:creationTimestamp:T 9:deletionTimestamp:*T 10:deletionGracePeriodSeconds:*i 11:labels:ms 12:annotations:ms \
13:ownerReferences:[]OwnerReference 14:finalizers:[]s 17:managedFields:[]ManagedFieldsEntry
OwnerReference 1:kind:s 3:name:s 4:uid:s 5:apiVersion:s 6:controller:*b 7:blockOwnerDeletion:*b
ManagedFieldsEntry 1:manager:s 2:operation:s 3:apiVersion:s 4:time:*T 6:fieldsType:s 7:fieldsV1:F 8:subresource:s
LabelSelector 1:matchLabels:ms 2:matchExpressions:[]LabelSelectorRequirement
LabelSelectorRequirement 1:key:s 2:operator:s 3:values:[]s
ObjectReference 1:kind:s 2:namespace:s 3:name:s 4:uid:s 5:apiVersion:s 6:resourceVersion:s 7:fieldPath:s
LocalObjectReference 1:name:s
DeleteOptions 1:gracePeriodSeconds:*i 2:preconditions:*Preconditions 3:orphanDependents:*b 4:propagationPolicy:*s \
5:dryRun:[]s
Preconditions 1:uid:*s 2:resourceVersion:*s
Namespace 1:metadata:ObjectMeta 2:spec:NamespaceSpec
NamespaceSpec 1:finalizers:[]s
ConfigMap 1:metadata:ObjectMeta 2:data:ms 3:binaryData:my 4:immutable:*b
Secret 1:metadata:ObjectMeta 2:data:my 3:type:s 4:stringData:ms 5:immutable:*b
ServiceAccount 1:metadata:ObjectMeta 2:secrets:[]ObjectReference 3:imagePullSecrets:[]LocalObjectReference \
4:automountServiceAccountToken:*b
Service 1:metadata:ObjectMeta 2:spec:ServiceSpec
ServiceSpec 1:ports:[]ServicePort 2:selector:ms 3:clusterIP:s 4:type:s 5:externalIPs:[]s 7:sessionAffinity:s \
8:loadBalancerIP:s 9:loadBalancerSourceRanges:[]s 10:externalName:s 11:externalTrafficPolicy:s \
12:healthCheckNodePort:i 13:publishNotReadyAddresses:b 17:ipFamilyPolicy:*s 18:clusterIPs:[]s 19:ipFamilies:[]s \
20:allocateLoadBalancerNodePorts:*b 21:loadBalancerClass:*s 22:internalTrafficPolicy:*s 23:trafficDistribution:*s
ServicePort 1:name:s 2:protocol:s 3:port:i 4:targetPort:I 5:nodePort:i 6:appProtocol:*s
Pod 1:metadata:ObjectMeta 2:spec:PodSpec
PodTemplateSpec 1:metadata:ObjectMeta 2:spec:PodSpec
PodSpec 1:volumes:[]Volume 2:containers:[]Container 3:restartPolicy:s 4:terminationGracePeriodSeconds:*i \
5:activeDeadlineSeconds:*i 6:dnsPolicy:s 7:nodeSelector:ms 8:serviceAccountName:s 9:serviceAccount:s 10:nodeName:s \
11:hostNetwork:b 12:hostPID:b 13:hostIPC:b 14:securityContext:*PodSecurityContext \
15:imagePullSecrets:[]LocalObjectReference 16:hostname:s 17:subdomain:s 19:schedulerName:s \
20:initContainers:[]Container 21:automountServiceAccountToken:*b 22:tolerations:[]Toleration \
24:priorityClassName:s 25:priority:*i \
27:shareProcessNamespace:*b 29:runtimeClassName:*s 30:enableServiceLinks:*b 31:preemptionPolicy:*s
PodSecurityContext 2:runAsUser:*i 3:runAsNonRoot:*b 4:supplementalGroups:[]i 5:fsGroup:*i 6:runAsGroup:*i
Toleration 1:key:s 2:operator:s 3:value:s 4:effect:s 5:tolerationSeconds:*i
Volume 1:name:s 2:-:VolumeSource
VolumeSource 1:hostPath:*HostPath 2:emptyDir:*EmptyDir 6:secret:*SecretVolume 10:persistentVolumeClaim:*ClaimVolume \
19:configMap:*ConfigMapVolume
HostPath 1:path:s 2:type:*s
EmptyDir 1:medium:s 2:sizeLimit:*Q
SecretVolume 1:secretName:s 2:items:[]KeyToPath 3:defaultMode:*i 4:optional:*b
ConfigMapVolume 1:-:LocalObjectReference 2:items:[]KeyToPath 3:defaultMode:*i 4:optional:*b
ClaimVolume 1:claimName:s 2:readOnly:b
KeyToPath 1:key:s 2:path:s 3:mode:*i
Container 1:name:s 2:image:s 3:command:[]s 4:args:[]s 5:workingDir:s 6:ports:[]ContainerPort 7:env:[]EnvVar \
8:resources:ResourceRequirements 9:volumeMounts:[]VolumeMount 10:livenessProbe:*Probe 11:readinessProbe:*Probe \
13:terminationMessagePath:s 14:imagePullPolicy:s 15:securityContext:*SecurityContext 16:stdin:b 17:stdinOnce:b \
18:tty:b 19:envFrom:[]EnvFromSource 20:terminationMessagePolicy:s 22:startupProbe:*Probe 24:restartPolicy:*s
ContainerPort 1:name:s 2:hostPort:i 3:containerPort:i 4:protocol:s 5:hostIP:s
EnvVar 1:name:s 2:value:s 3:valueFrom:*EnvVarSource
EnvVarSource 1:fieldRef:*FieldRef 3:configMapKeyRef:*KeyRef 4:secretKeyRef:*KeyRef
FieldRef 1:apiVersion:s 2:fieldPath:s
KeyRef 1:-:LocalObjectReference 2:key:s 3:optional:*b
EnvFromSource 1:prefix:s 2:configMapRef:*EnvFromRef 3:secretRef:*EnvFromRef
EnvFromRef 1:-:LocalObjectReference 2:optional:*b
ResourceRequirements 1:limits:mq 2:requests:mq
VolumeMount 1:name:s 2:readOnly:b 3:mountPath:s 4:subPath:s
Probe 1:-:ProbeHandler 2:initialDelaySeconds:i 3:timeoutSeconds:i 4:periodSeconds:i 5:successThreshold:i \
6:failureThreshold:i 7:terminationGracePeriodSeconds:*i
ProbeHandler 1:exec:*ExecAction 2:httpGet:*HTTPGetAction 3:tcpSocket:*TCPSocketAction
ExecAction 1:command:[]s
HTTPGetAction 1:path:s 2:port:I 3:host:s 4:scheme:s 5:httpHeaders:[]HTTPHeader
HTTPHeader 1:name:s 2:value:s
TCPSocketAction 1:port:I 2:host:s
SecurityContext 1:capabilities:*Capabilities 2:privileged:*b 4:runAsUser:*i 5:runAsNonRoot:*b \
6:readOnlyRootFilesystem:*b 7:allowPrivilegeEscalation:*b 8:runAsGroup:*i
Capabilities 1:add:[]s 2:drop:[]s
Deployment 1:metadata:ObjectMeta 2:spec:DeploymentSpec
DeploymentSpec 1:replicas:*i 2:selector:*LabelSelector 3:template:PodTemplateSpec 4:strategy:DeploymentStrategy \
5:minReadySeconds:i 6:revisionHistoryLimit:*i 7:paused:b 9:progressDeadlineSeconds:*i
DeploymentStrategy 1:type:s 2:rollingUpdate:*RollingUpdateDeployment
RollingUpdateDeployment 1:maxUnavailable:*I 2:maxSurge:*I
Job 1:metadata:ObjectMeta 2:spec:JobSpec
JobSpec 1:parallelism:*i 2:completions:*i 3:activeDeadlineSeconds:*i 4:selector:*LabelSelector 5:manualSelector:*b \
6:template:PodTemplateSpec 7:backoffLimit:*i 8:ttlSecondsAfterFinished:*i 9:completionMode:*s 10:suspend:*b
CronJob 1:metadata:ObjectMeta 2:spec:CronJobSpec
CronJobSpec 1:schedule:s 2:startingDeadlineSeconds:*i 3:concurrencyPolicy:s 4:suspend:*b 5:jobTemplate:JobTemplateSpec \
6:successfulJobsHistoryLimit:*i 7:failedJobsHistoryLimit:*i 8:timeZone:*s
JobTemplateSpec 1:metadata:ObjectMeta 2:spec:JobSpec
Role 1:metadata:ObjectMeta 2:rules:[]PolicyRule
ClusterRole 1:metadata:ObjectMeta 2:rules:[]PolicyRule 3:aggregationRule:*AggregationRule
AggregationRule 1:clusterRoleSelectors:[]LabelSelector
PolicyRule 1:verbs:[]s 2:apiGroups:[]s 3:resources:[]s 4:resourceNames:[]s 5:nonResourceURLs:[]s
RoleBinding 1:metadata:ObjectMeta 2:subjects:[]Subject 3:roleRef:RoleRef
Subject 1:kind:s 2:apiGroup:s 3:name:s 4:namespace:s
RoleRef 1:apiGroup:s 2:kind:s 3:name:s
HorizontalPodAutoscaler 1:metadata:ObjectMeta 2:spec:HPASpec
HPASpec 1:scaleTargetRef:CrossVersionObjectReference 2:minReplicas:*i 3:maxReplicas:i 4:metrics:[]MetricSpec
HPAv1 1:metadata:ObjectMeta 2:spec:HPAv1Spec
HPAv1Spec 1:scaleTargetRef:CrossVersionObjectReference 2:minReplicas:*i 3:maxReplicas:i \
4:targetCPUUtilizationPercentage:*i
CrossVersionObjectReference 1:kind:s 2:name:s 3:apiVersion:s
MetricSpec 1:type:s 4:resource:*ResourceMetricSource
ResourceMetricSource 1:name:s 2:target:MetricTarget
MetricTarget 1:type:s 2:value:*Q 3:averageValue:*Q 4:averageUtilization:*i
PodDisruptionBudget 1:metadata:ObjectMeta 2:spec:PDBSpec
PDBSpec 1:minAvailable:*I 2:selector:*LabelSelector 3:maxUnavailable:*I 4:unhealthyPodEvictionPolicy:*s
PriorityClass 1:metadata:ObjectMeta 2:value:*i 3:globalDefault:b 4:description:s 5:preemptionPolicy:*s
ResourceQuota 1:metadata:ObjectMeta 2:spec:ResourceQuotaSpec
ResourceQuotaSpec 1:hard:mq 2:scopes:[]s
Ingress 1:metadata:ObjectMeta 2:spec:IngressSpec
IngressSpec 1:defaultBackend:*IngressBackend 2:tls:[]IngressTLS 3:rules:[]IngressRule 4:ingressClassName:*s
IngressTLS 1:hosts:[]s 2:secretName:s
IngressRule 1:host:s 2:-:IngressRuleValue
IngressRuleValue 1:http:*HTTPIngressRuleValue
HTTPIngressRuleValue 1:paths:[]HTTPIngressPath
HTTPIngressPath 1:path:s 2:backend:IngressBackend 3:pathType:*s
IngressBackend 3:resource:*TypedLocalObjectReference 4:service:*IngressServiceBackend
TypedLocalObjectReference 1:apiGroup:*s 2:kind:s 3:name:s
IngressServiceBackend 1:name:s 2:port:ServiceBackendPort
ServiceBackendPort 1:name:s 2:number:i
Eviction 1:metadata:ObjectMeta 2:deleteOptions:*DeleteOptions
Binding 1:metadata:ObjectMeta 2:target:ObjectReference
TokenRequest 1:metadata:ObjectMeta 2:spec:TokenRequestSpec
TokenRequestSpec 1:audiences:[]s 3:boundObjectRef:*BoundObjectReference 4:expirationSeconds:*i
BoundObjectReference 1:kind:s 2:apiVersion:s 3:name:s 4:uid:s
TokenReview 1:metadata:ObjectMeta 2:spec:TokenReviewSpec
TokenReviewSpec 1:token:s 2:audiences:[]s
SelfSubjectReview 1:metadata:ObjectMeta
SelfSubjectRulesReview 1:metadata:ObjectMeta 2:spec:SelfSubjectRulesReviewSpec
SelfSubjectRulesReviewSpec 1:namespace:s
AccessReview 1:metadata:ObjectMeta 2:spec:AccessReviewSpec
AccessReviewSpec 1:resourceAttributes:*ResourceAttributes 2:nonResourceAttributes:*NonResourceAttributes 3:user:s \
4:groups:[]s 6:uid:s
ResourceAttributes 1:namespace:s 2:verb:s 3:group:s 4:version:s 5:resource:s 6:subresource:s 7:name:s
NonResourceAttributes 1:path:s 2:verb:s
Lease 1:metadata:ObjectMeta 2:spec:LeaseSpec
LeaseSpec 1:holderIdentity:*s 2:leaseDurationSeconds:*i 5:leaseTransitions:*i
"""

KINDS = {
    ("autoscaling/v1", "HorizontalPodAutoscaler"): "HPAv1",
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"): "RoleBinding",
    ("authorization.k8s.io/v1", "SelfSubjectAccessReview"): "AccessReview",
    ("authorization.k8s.io/v1", "SubjectAccessReview"): "AccessReview",
    ("authorization.k8s.io/v1", "LocalSubjectAccessReview"): "AccessReview",
    ("meta.k8s.io/v1", "DeleteOptions"): "DeleteOptions",
}
"""The message of a kind where its name is another one."""
